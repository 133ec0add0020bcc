#!/bin/sh
# Stands for the machine's PCI bus: shows NVIDIA devices in /sys/bus/pci/devices, before any driver is installed. Called at boot
# by the unit that `putGpus` writes.
set -eu
mount -t tmpfs -o size=1m,mode=755 fakegpu /sys/bus/pci/devices
lspci -D -n -d 10de: | while read -r address class ids _; do
  device="/sys/bus/pci/devices/$address"
  mkdir -p "$device"
  echo "0x${class%:}00" >"$device/class"
  echo 0x10de >"$device/vendor"
  echo "0x${ids#*:}" >"$device/device"
done
