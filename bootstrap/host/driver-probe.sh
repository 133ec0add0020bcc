# shellcheck shell=sh disable=SC2034
# Sourced: what can be seen of GPUs and driver, without changing anything. driver-verdict.sh judges it.
# Reads: TANDEM_SYS, TANDEM_PROC     the folders that are /sys and /proc; for tests
#        TANDEM_KERNEL_LOG           a file that is the kernel's log; for tests
#        TANDEM_SMI_SECONDS          limit of one call of nvidia-smi, 10
# Sets:  gpus_on_bus, nvswitches     what the bus shows
#        smi                         missing, ok, hangs or failed; smi_text its words when it failed
#        gpus_seen, smi_version      what the driver says
#        module_version, module_kind of the loaded kernel module; kind open, proprietary or none
#        library_version             of the libraries in user space, which must be the module's
# shellcheck source=gpu-bus.sh
. "$TANDEM_SCRIPTS_DIR/gpu-bus.sh"

smi() { timeout -k 1 "${TANDEM_SMI_SECONDS:-10}" nvidia-smi "$@" 2>&1; }

probe_driver() {
  bus="$(bus_gpus)"
  gpus_on_bus="$(printf '%s\n' "$bus" | LC_ALL=C awk 'NF && $3 != "vfio-pci" { n++ } END { print n + 0 }')"
  nvswitches="$(bus_nvswitch_count)"
  probe_smi
  probe_module
  library_version="$(installed_library_version)"
}

probe_smi() {
  gpus_seen=0 smi_version='' smi_text='' smi=missing
  command -v nvidia-smi >/dev/null 2>&1 || return 0
  code=0
  answer="$(smi --query-gpu=index,driver_version --format=csv,noheader)" || code=$?
  case "$code" in
    0)
      smi=ok
      gpus_seen="$(printf '%s\n' "$answer" | grep -cE '^[0-9]+, ' || :)"
      smi_version="$(printf '%s\n' "$answer" | LC_ALL=C sed -n 's/^[0-9]*, *\([0-9][0-9.]*\).*/\1/p' | head -n 1)"
      # A GPU that was lost is named in words between the rows.
      smi_text="$(printf '%s\n' "$answer" | grep -vE '^[0-9]+, ' || :)"
      ;;
    124 | 137) smi=hangs ;;
    *) smi=failed smi_text="$answer" ;;
  esac
}

probe_module() {
  module_version='' module_kind=none
  version_file="${TANDEM_PROC:-/proc}/driver/nvidia/version"
  if [ -r "$version_file" ]; then
    # "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build ..."
    module_version="$(LC_ALL=C sed -n 's/^NVRM version:.*[^0-9.]\([0-9][0-9]*\.[0-9][0-9.]*\) .*/\1/p' "$version_file" | head -n 1)"
    module_kind=proprietary
    if grep -q 'Open Kernel Module' "$version_file"; then module_kind=open; fi
  elif [ -r "${TANDEM_SYS:-/sys}/module/nvidia/version" ]; then
    module_version="$(cat "${TANDEM_SYS:-/sys}/module/nvidia/version")"
    module_kind=proprietary
  fi
}

# The version is in the name of the file that libnvidia-ml.so.1 leads to.
installed_library_version() {
  library="$(PATH="$PATH:/usr/sbin:/sbin" ldconfig -p 2>/dev/null | LC_ALL=C awk '$1 == "libnvidia-ml.so.1" { print $NF; exit }')"
  [ -n "$library" ] || return 0
  readlink -f "$library" | LC_ALL=C sed -n 's/.*\/libnvidia-ml\.so\.\([0-9][0-9]*\.[0-9][0-9.]*\)$/\1/p'
}

# Lines of the kernel's log of this boot that match: kernel_says PATTERN
kernel_says() {
  if [ -n "${TANDEM_KERNEL_LOG:-}" ]; then
    grep -E "$1" "$TANDEM_KERNEL_LOG" || :
  else
    { timeout 5 journalctl -k -b -q --no-pager 2>/dev/null || dmesg 2>/dev/null || :; } | grep -E "$1" || :
  fi
}

kernel_headers_are_there() { [ -e "${TANDEM_MODULES:-/lib/modules}/$(uname -r)/build/Makefile" ]; }

module_is_loaded() { [ -d "${TANDEM_SYS:-/sys}/module/$1" ]; }

# Processes that use GPUs and are none of the stack's: "<pid> <name>", one a line.
gpu_strangers() {
  users=''
  if [ "${smi:-}" = ok ]; then
    users="$(smi --query-compute-apps=pid,process_name --format=csv,noheader | LC_ALL=C sed -n 's/^\([0-9][0-9]*\), */\1 /p')"
  elif [ "$(id -u)" -eq 0 ]; then
    for pid in $(find /proc/[0-9]*/fd -maxdepth 1 -lname '/dev/nvidia[0-9]*' 2>/dev/null | cut -d/ -f3 | sort -u); do
      users="$users
$pid $(cat "/proc/$pid/comm" 2>/dev/null)"
    done
  fi
  printf '%s\n' "$users" | while read -r pid name; do
    case "$name" in
      '' | *nvidia-persiste* | *nv-fabricmanage* | *nv-hostengine*) continue ;;
    esac
    if [ -n "${TANDEM_STACK_DIR:-}" ] && tr '\000' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qxF "TANDEM_STACK_DIR=$TANDEM_STACK_DIR"; then continue; fi
    printf '%s %s\n' "$pid" "$name"
  done
}
