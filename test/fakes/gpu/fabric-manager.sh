#!/bin/sh
# Stands for NVIDIA's fabric manager: refuses a driver of another version, else marks the NVLink fabric as set up.
# Reads: /usr/lib/fakegpu/fabric-version
set -eu
version="$(cat /usr/lib/fakegpu/fabric-version)"
if [ "${1:-}" = --version ]; then
  echo "Fabric Manager version is : $version"
  exit 0
fi
if ! grep -qF " $version " /proc/driver/nvidia/version 2>/dev/null; then
  echo "fabric manager NVIDIA GPU driver interface version $version don't match with driver version" >&2
  exit 1
fi
mkdir -p /run/fakegpu
touch /run/fakegpu/fabric
trap 'rm -f /run/fakegpu/fabric; exit 0' TERM INT
while :; do sleep 1000 & wait $!; done
