#!/bin/sh
# Stands for the kernel at boot: what a package has put on the disk becomes the loaded module.
folder=/var/lib/fakegpu/proc/driver/nvidia
mkdir -p "$folder"
printf 'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  %s  Release Build  (test)\n' "$(cat /usr/lib/fakegpu/module-version)" >"$folder/version"
