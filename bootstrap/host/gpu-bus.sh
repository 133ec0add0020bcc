# shellcheck shell=sh
# Sourced: what can be told of GPUs before there is a driver: the NVIDIA devices on the PCI bus, and whether Secure Boot is on.
# Needs neither root nor lspci.
# Reads: TANDEM_SYS   the folder that is /sys; for tests

# "<address> <device id> <kernel driver or ->" of each GPU (display or 3D controller), in the order in which nvidia-smi counts.
# Nothing in an application container: its /sys shows the host's devices, whether they were given to it or not.
bus_gpus() {
  if in_application_container; then return 0; fi
  found="$(sysfs_devices '0x0300* 0x0302*')"
  [ -n "$found" ] || found="$(lspci_devices '0300 0302')"
  [ -z "$found" ] || printf '%s\n' "$found" | sort
}

# How many NVSwitches are on the bus. Those of Blackwell machines are behind InfiniBand functions and don't show.
bus_nvswitch_count() {
  if in_application_container; then
    echo 0
    return
  fi
  found="$(sysfs_devices '0x0680*')"
  [ -n "$found" ] || found="$(lspci_devices 0680)"
  printf '%s' "$found" | grep -c . || :
}

# By reading alone: a machine with GPUs has a hundred devices on its bus. sysfs_devices 'CLASS-PATTERN...'
sysfs_devices() {
  for device in "${TANDEM_SYS:-/sys}"/bus/pci/devices/*; do
    if [ ! -r "$device/vendor" ] || ! read -r vendor <"$device/vendor" || [ "$vendor" != 0x10de ]; then continue; fi
    read -r class <"$device/class"
    for pattern in $1; do
      # shellcheck disable=SC2254 # It is a pattern.
      case "$class" in
        $pattern)
          read -r id <"$device/device"
          driver=-
          if [ -L "$device/driver" ]; then driver="$(basename "$(readlink "$device/driver")")"; fi
          printf '%s %s %s\n' "${device##*/}" "${id#0x}" "$driver"
          ;;
      esac
    done
  done
}

# For a /sys without the bus in it. lspci_devices 'CLASS...'
lspci_devices() {
  for device in "${TANDEM_SYS:-/sys}"/bus/pci/devices/*; do
    if [ -r "$device/vendor" ]; then return 0; fi
  done
  command -v lspci >/dev/null 2>&1 || return 0
  timeout 5 lspci -D -n -d 10de: 2>/dev/null | LC_ALL=C awk -v classes=" $1 " '
    index(classes, " " substr($2, 1, 4) " ") { split($3, id, ":"); print $1, tolower(id[2]), "-" }' || :
}

in_application_container() {
  [ -z "${TANDEM_SYS:-}" ] || return 1
  [ -e /.dockerenv ] || [ -e /run/.containerenv ] || [ -n "${KUBERNETES_SERVICE_HOST:-}" ]
}

# Whether Secure Boot is on: 4 bytes of attributes, then 1.
secure_boot_is_on() {
  for variable in "${TANDEM_SYS:-/sys}"/firmware/efi/efivars/SecureBoot-*; do
    if [ -r "$variable" ] && [ "$(od -An -tu1 -j4 -N1 "$variable" 2>/dev/null | tr -d ' ')" = 1 ]; then return 0; fi
  done
  return 1
}
