#!/bin/sh
# Stands for the kernel loading nvidia.ko at boot: shows what the real module shows, /proc/driver/nvidia/version and
# /sys/module/nvidia. Called by the boot unit of a driver package; both are mounts of this host's own and end with its boot.
# Reads: /usr/lib/fakegpu/module   "VERSION open|proprietary"
set -eu
[ ! -e /proc/driver/nvidia/version ] || exit 0
grep -q '"moduleRefused": *true' /etc/fakegpu.json 2>/dev/null && exit 1
# Without a GPU on the bus the real module refuses to load.
lspci -n -d 10de: 2>/dev/null | grep -q ' 030[02]:' || exit 1

read -r version kind </usr/lib/fakegpu/module
name='UNIX x86_64 Kernel Module'
[ "$kind" != open ] || name='UNIX Open Kernel Module for x86_64'
mount -t tmpfs -o size=64k,mode=755 fakegpu /proc/driver
mkdir -p /proc/driver/nvidia
printf 'NVRM version: NVIDIA %s  %s  Release Build  (builder@localhost)\nGCC version:  gcc version 12.2.0\n' "$name" "$version" \
  >/proc/driver/nvidia/version
mount -o remount,rw /sys
mkdir -p /sys/module/nvidia
echo "$version" >/sys/module/nvidia/version
mount -o remount,ro /sys
