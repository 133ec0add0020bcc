#!/bin/sh
# Stands for nvidia-smi in test packages: the parts of it that Tandem asks for. Words and exit statuses are those of drivers 550
# and 580: 9 without a module, 18 when module and libraries differ. /var/lib/fakegpu stands for kernel and hardware:
#   proc/driver/nvidia/version   the loaded module; there after a boot with the package       gpus    how many GPUs answer
#   hangs                        the driver hangs                                             users   compute processes, "pid, name"
VERSION=@VERSION@
state=/var/lib/fakegpu
[ ! -e "$state/hangs" ] || exec sleep 3600
module="$(sed -n 's/^NVRM.* \([0-9][0-9.]*\)  Release.*/\1/p' "$state/proc/driver/nvidia/version" 2>/dev/null)"
if [ -z "$module" ]; then
  echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running."
  exit 9
fi
if [ "$module" != "$VERSION" ]; then
  echo "Failed to initialize NVML: Driver/library version mismatch"
  echo "NVML library version: ${VERSION%.*}"
  exit 18
fi
rows() {
  index=0
  while [ "$index" -lt "$(cat "$state/gpus")" ]; do
    printf '%s\n' "$index$1"
    index=$((index + 1))
  done
}
case "$*" in
  --query-gpu=index,driver_version*) rows ", $VERSION" ;;
  --query-gpu=index,uuid,name,memory.total,memory.used,compute_cap*) rows ", GPU-fake, NVIDIA H100 80GB HBM3, 81559, 0, 9.0" ;;
  --query-compute-apps=*) cat "$state/users" 2>/dev/null || : ;;
  '') echo "| NVIDIA-SMI $VERSION   Driver Version: $VERSION   CUDA Version: 13.0 |" ;;
  *) exit 2 ;;
esac
