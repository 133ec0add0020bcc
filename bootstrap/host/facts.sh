#!/bin/sh
# Prints what this host is as one JSON object: HostFacts of plan/facts.ts. Changes nothing; needs neither Python nor root.
# Reads: TANDEM_PORT       the port whose holder is wanted (optional)
#        TANDEM_STACK      the stack whose vLLM is told of (optional)
#        TANDEM_CACHE_DIR  the folder whose disk is looked at, see common.sh
TANDEM_SCRIPTS_DIR="${TANDEM_SCRIPTS_DIR:-$(cd "$(dirname "$0")" && pwd)}"
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=port.sh
. "$TANDEM_SCRIPTS_DIR/port.sh"
# shellcheck source=python.sh
. "$TANDEM_SCRIPTS_DIR/python.sh"
# shellcheck source=unit.sh
. "$TANDEM_SCRIPTS_DIR/unit.sh"
# shellcheck source=facts-gpu.sh
. "$TANDEM_SCRIPTS_DIR/facts-gpu.sh"

# "name":"value" pairs of the variables that the GPU libraries read.
environment_json() {
  separator=''
  for name in $(env | LC_ALL=C sed -n 's/^\(\(NCCL\|NVSHMEM\|TORCH_SYMM_MEM\|TORCH_NCCL\|GLOO\|UCX\)_[A-Za-z0-9_]*\|LD_LIBRARY_PATH\)=.*/\1/p' | sort -u); do
    value="$(printenv "$name")"
    printf '%s"%s":%s' "$separator" "$name" "$(json_string "$value")"
    separator=,
  done
}

pythons_json() {
  separator=''
  find_pythons | while read -r path version; do
    printf '%s{"path":%s,"version":"%s"}' "$separator" "$(json_string "$path")" "$version"
    separator=,
  done
}

# The folder itself, or the nearest one above it that is there.
nearest_folder() {
  place="$1"
  until [ -d "$place" ]; do place="$(dirname "$place")"; done
  printf '%s' "$place"
}

# Free GiB of the disk on which a folder lies or will lie.
free_gib() { df -Pk "$(nearest_folder "$1")" | awk 'NR == 2 { printf "%.2f", $4 / 1048576 }'; }

# The stacks' folder, where its disk is another one than the cache's.
stacks_json() {
  disks="$(stat -L -c %d "$(nearest_folder "$TANDEM_HOST_DIR")" "$(nearest_folder "$TANDEM_CACHE_DIR")" | sort -u | wc -l)"
  if [ "$disks" -gt 1 ]; then printf ',"stacks":{"path":%s,"freeGiB":%s}' "$(json_string "$TANDEM_HOST_DIR")" "$(free_gib "$TANDEM_HOST_DIR")"; fi
}

# What proof.sh kept beside the weights; lines of another form are no records.
footprints_json() {
  records="$(cat "$TANDEM_CACHE_DIR"/models/footprint-*.json 2>/dev/null |
    LC_ALL=C sed -n 's/^\({"key":"[^"\\]*","besideKvGiB":[0-9][0-9.]*\),"measuredAt":"[^"\\]*"}$/\1}/p' | paste -sd, -)"
  if [ -n "$records" ]; then printf ',"footprints":[%s]' "$records"; fi
}

# What the stack's own vLLM was started with.
started_with_json() {
  definition="$TANDEM_STACK_DIR/units/serving/unit.json"
  if [ -z "${TANDEM_STACK:-}" ] || [ ! -r "$definition" ]; then return 0; fi
  serving_footprintKey='' serving_footprintGiB=''
  eval "$(json_assignments serving_ <"$definition" 2>/dev/null)"
  if [ -n "$serving_footprintKey" ] && [ -n "$serving_footprintGiB" ]; then
    printf ',"startedWith":{"key":%s,"besideKvGiB":%s}' "$(json_string "$serving_footprintKey")" "$serving_footprintGiB"
  fi
}

port_holder_json() {
  [ -n "${TANDEM_PORT:-}" ] || return 0
  holder="$(port_holder "$TANDEM_PORT")"
  case "$holder" in
    '') ;;
    unknown) printf ',"portHolder":{}' ;;
    *) printf ',"portHolder":{"processId":%s,"command":%s}' "${holder%% *}" "$(json_string "${holder#* }")" ;;
  esac
}

operating_system_json() {
  os_id="$(. /etc/os-release && printf '%s' "${ID:-linux}")" os_version="$(. /etc/os-release && printf '%s' "${VERSION_ID:-}")"
  printf '{"id":%s,"version":%s' "$(json_string "$os_id")" "$(json_string "$os_version")"
  glibc="$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)"
  if [ -n "$glibc" ]; then printf ',"glibc":"%s"' "$glibc"; fi
  printf '}'
}

c_compiler_json() {
  if command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1; then echo true; else echo false; fi
}

main() {
  memory="$(awk '/^MemTotal:/ { total = $2 } /^MemAvailable:/ { available = $2 }
    END { printf "\"memoryTotalGiB\":%.2f,\"memoryAvailableGiB\":%.2f", total / 1048576, available / 1048576 }' /proc/meminfo)"
  is_root=false
  if [ "$(id -u)" -eq 0 ]; then is_root=true; fi
  shared=0
  if [ -d /dev/shm ]; then shared="$(free_gib /dev/shm)"; fi
  printf '{"name":%s,"architecture":%s,"operatingSystem":%s,"cpuCores":%s,%s,"cache":{"path":%s,"freeGiB":%s}%s%s%s,"sharedMemoryGiB":%s' \
    "$(json_string "$(uname -n)")" "$(json_string "$(uname -m)")" "$(operating_system_json)" "$(nproc)" "$memory" \
    "$(json_string "$TANDEM_CACHE_DIR")" "$(free_gib "$TANDEM_CACHE_DIR")" "$(stacks_json)" "$(footprints_json)" "$(started_with_json)" "$shared"
  gpu_facts_json
  printf ',"isRoot":%s,"serviceManager":"%s","pythons":[%s],"hasCCompiler":%s%s,"environment":{%s}}\n' "$is_root" \
    "$(service_manager)" "$(pythons_json)" "$(c_compiler_json)" "$(port_holder_json)" "$(environment_json)"
}

main "$@"
exit
