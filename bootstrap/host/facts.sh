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
  case "$(env)" in
    *NCCL_* | *NVSHMEM_* | *TORCH_SYMM_MEM_* | *GLOO_* | *UCX_* | *LD_LIBRARY_PATH=*) ;;
    *) return 0 ;;
  esac
  separator=''
  for name in $(env | LC_ALL=C sed -n 's/^\(\(NCCL\|NVSHMEM\|TORCH_SYMM_MEM\|TORCH_NCCL\|GLOO\|UCX\)_[A-Za-z0-9_]*\|LD_LIBRARY_PATH\)=.*/\1/p' | sort -u); do
    json_quote "$(printenv "$name")"
    printf '%s"%s":%s' "$separator" "$name" "$quoted"
    separator=,
  done
}

pythons_json() {
  separator=''
  find_pythons | while read -r path version; do
    json_quote "$path"
    printf '%s{"path":%s,"version":"%s"}' "$separator" "$quoted" "$version"
    separator=,
  done
}

# Sets $place: the folder itself, or the nearest one above it that is there.
nearest_folder() {
  place="$1"
  until [ -d "${place:=/}" ]; do place="${place%/*}"; done
}

# Memory, and free space of the disks on which caches and stacks lie or will lie; the stacks' only where it is another disk.
space_json() {
  json_quote "$TANDEM_CACHE_DIR" && quoted_cache="$quoted"
  json_quote "$TANDEM_HOST_DIR" && quoted_stacks="$quoted"
  nearest_folder "$TANDEM_CACHE_DIR" && set -- "$place"
  nearest_folder "$TANDEM_HOST_DIR" && set -- "$@" "$place"
  if [ -d /dev/shm ]; then set -- "$@" /dev/shm; fi
  df -Pk "$@" | CACHE="$quoted_cache" STACKS="$quoted_stacks" LC_ALL=C awk '
    function gib(kib) { return sprintf("%.2f", kib / 1048576) }
    FILENAME == "/proc/meminfo" { if ($1 == "MemTotal:") total = $2; if ($1 == "MemAvailable:") available = $2; next }
    { row = FNR - 1; free[row] = $4; $2 = $3 = $4 = $5 = ""; disk[row] = $0 }
    END {
      printf ",\"memoryTotalGiB\":%s,\"memoryAvailableGiB\":%s", gib(total), gib(available)
      printf ",\"cache\":{\"path\":%s,\"freeGiB\":%s}", ENVIRON["CACHE"], gib(free[1])
      if (disk[1] != disk[2]) printf ",\"stacks\":{\"path\":%s,\"freeGiB\":%s}", ENVIRON["STACKS"], gib(free[2])
      printf ",\"sharedMemoryGiB\":%s", (row > 2) ? gib(free[3]) : 0
    }' /proc/meminfo -
}

# What proof.sh kept beside the weights; lines of another form are no records.
footprints_json() {
  set -- "$TANDEM_CACHE_DIR"/models/footprint-*.json
  [ -r "$1" ] || return 0
  records="$(cat "$@" 2>/dev/null |
    LC_ALL=C sed -n 's/^\({"key":"[^"\\]*","besideKvGiB":[0-9][0-9.]*\),"measuredAt":"[^"\\]*"}$/\1}/p' | paste -sd, -)"
  if [ -n "$records" ]; then printf ',"footprints":[%s]' "$records"; fi
}

# What the stack's own vLLM was started with.
started_with_json() {
  [ -n "${TANDEM_STACK:-}" ] || return 0
  read_line "$TANDEM_STACK_DIR/units/serving/unit.json"
  case "$file_line" in *footprintKey*) ;; *) return 0 ;; esac
  serving_footprintKey='' serving_footprintGiB=''
  eval "$(printf '%s' "$file_line" | json_assignments serving_ 2>/dev/null)"
  if [ -n "$serving_footprintKey" ] && [ -n "$serving_footprintGiB" ]; then
    json_quote "$serving_footprintKey"
    printf ',"startedWith":{"key":%s,"besideKvGiB":%s}' "$quoted" "$serving_footprintGiB"
  fi
}

port_holder_json() {
  [ -n "${TANDEM_PORT:-}" ] || return 0
  holder="$(port_holder "$TANDEM_PORT")"
  case "$holder" in
    '') ;;
    unknown) printf ',"portHolder":{}' ;;
    *)
      json_quote "${holder#* }"
      printf ',"portHolder":{"processId":%s,"command":%s}' "${holder%% *}" "$quoted"
      ;;
  esac
}

operating_system_json() {
  # shellcheck source=/dev/null
  (. /etc/os-release && json_quote "${ID:-linux}" && printf '{"id":%s' "$quoted" && json_quote "${VERSION_ID:-}" && printf ',"version":%s' "$quoted")
  glibc="$(getconf GNU_LIBC_VERSION 2>/dev/null)" || glibc=''
  printf '%s}' "${glibc:+,\"glibc\":\"${glibc#* }\"}"
}

main() {
  compiler=false is_root=false
  if command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1; then compiler=true; fi
  if [ "$(id -u)" -eq 0 ]; then is_root=true; fi
  read_line /proc/sys/kernel/hostname
  json_quote "$file_line"
  printf '{"name":%s,"architecture":"%s","cpuCores":%s,"operatingSystem":' "$quoted" "$(uname -m)" "$(nproc)"
  operating_system_json
  space_json
  footprints_json
  started_with_json
  gpu_facts_json
  printf ',"isRoot":%s,"serviceManager":"%s","hasCCompiler":%s,"pythons":[' "$is_root" "$(service_manager)" "$compiler"
  pythons_json
  printf ']'
  port_holder_json
  printf ',"environment":{'
  environment_json
  printf '}}\n'
}

main "$@"
exit
