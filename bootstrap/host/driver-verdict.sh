# shellcheck shell=sh
# Sourced: what is wrong with GPUs and driver, and the cure. Changes nothing.
# driver_verdicts prints one line each, "<code>\t<ok|warn|fail>\t<text>\t<cure>", the root cause first. Codes are a contract:
#   gpus-on-bus no-gpu gpus-missing gpu-lost            driver driver-missing driver-too-old driver-hangs driver-not-loaded
#   version-mismatch secure-boot no-headers dkms-failed wrong-module nouveau
#   fabric-manager fabric-manager-missing fabric-manager-version fabric-manager-stopped
#   cuda cuda-failed in-use
# Reads: DRIVER_FLOOR           the driver branch that the runtime needs at least; empty for any
#        DRIVER_EXPECTED_GPUS   how many GPUs there must be; empty for as many as the bus shows
#        DRIVER_QUICK           1 leaves out what takes long: CUDA, and who uses the GPUs
#        and what driver-probe.sh reads
# shellcheck source=driver-probe.sh
. "$TANDEM_SCRIPTS_DIR/driver-probe.sh"

# verdict CODE LEVEL TEXT [CURE]
verdict() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "${4:-}"; }

driver_verdicts() {
  probe_driver
  if [ "$gpus_on_bus" -eq 0 ] && [ "$gpus_seen" -eq 0 ]; then
    verdict no-gpu fail "no NVIDIA GPU on the bus" \
      "choose a machine with GPUs; in a virtual machine check that they are passed through, in a data centre ask for the card to be seated again"
    return
  fi
  if [ "$gpus_on_bus" -gt 0 ]; then
    switches=''
    if [ "$nvswitches" -gt 0 ]; then switches=", $nvswitches NVSwitches"; fi
    verdict gpus-on-bus ok "$gpus_on_bus NVIDIA GPUs on the bus$switches"
  fi
  if module_is_loaded nouveau; then
    verdict nouveau "$([ "$smi" = ok ] && echo warn || echo fail)" "the kernel's own driver nouveau holds the GPUs" \
      "driver.policy: ensure switches it off and reboots"
  fi
  case "$smi" in
    missing) verdict_missing ;;
    hangs) verdict driver-hangs fail "nvidia-smi does not answer within ${TANDEM_SMI_SECONDS:-10} s: the driver hangs" "reboot the machine" ;;
    failed) verdict_failed ;;
    ok) verdict_answers ;;
  esac
}

verdict_missing() {
  if [ -n "$module_version" ]; then
    verdict driver ok "the kernel module $module_version is loaded"
    verdict driver-missing fail "nvidia-smi and its libraries are missing" "install the libraries of version $module_version"
    return
  fi
  verdict driver-missing fail "there is no NVIDIA driver" "driver.policy: ensure installs it"
  if secure_boot_is_on; then
    verdict secure-boot warn "Secure Boot is on: only a signed kernel module will load" \
      "Ubuntu's own packages are signed; elsewhere enrol a key of yours (mokutil --import) or switch Secure Boot off"
  fi
}

# nvidia-smi is there and fails: why the module is not loaded, or does not work.
verdict_failed() {
  case "$smi_text" in
    *'Driver/library version mismatch'*)
      verdict_mismatch
      return
      ;;
    *'GPU is lost'* | *'Unable to determine the device handle'*)
      verdict_lost
      return
      ;;
  esac
  if [ -n "$module_version" ] && [ -n "$library_version" ] && [ "$module_version" != "$library_version" ]; then
    verdict_mismatch
  elif [ -n "$(kernel_says 'requires use of the NVIDIA open kernel modules')" ]; then
    verdict wrong-module fail "these GPUs need NVIDIA's open kernel module; the proprietary one is installed" \
      "install the -open packages of the same branch and reboot"
  elif [ -n "$(kernel_says 'NVRM:.*(not supported by open|does not include the required GPU)')" ]; then
    verdict wrong-module fail "these GPUs are older than NVIDIA's open kernel module supports" \
      "install the proprietary packages of branch 580 and reboot"
  elif secure_boot_is_on && [ -n "$(kernel_says 'nvidia.*(Key was rejected|required key not available)|Loading of unsigned module|Lockdown: modprobe')" ]; then
    verdict secure-boot fail "Secure Boot refuses the kernel module, which is not signed by a key that this machine knows" \
      "enrol the key (mokutil --import /var/lib/dkms/mok.pub, then confirm at the console), use Ubuntu's signed packages, or switch Secure Boot off"
  else
    verdict_not_built
  fi
}

verdict_not_built() {
  built="$(timeout 10 dkms status 2>/dev/null | grep -i '^nvidia' || :)"
  case "$built" in
    '' | *": installed"*)
      verdict driver-not-loaded fail "the driver is installed but not loaded: $(printf '%s' "$smi_text" | head -n 1 | cut -c 1-160)" "reboot the machine"
      ;;
    *)
      if kernel_headers_are_there; then
        verdict dkms-failed fail "the kernel module could not be built for $(uname -r): $(printf '%s' "$built" | head -n 1)" \
          "see /var/lib/dkms/nvidia*/*/build/make.log; a newer driver of the branch may know this kernel"
      else
        verdict no-headers fail "the headers of the running kernel $(uname -r) are missing, so the module could not be built" \
          "apt-get install linux-headers-$(uname -r); when there is no such package any more, upgrade the kernel and reboot"
      fi
      ;;
  esac
}

verdict_mismatch() {
  verdict version-mismatch fail "the loaded kernel module${module_version:+ $module_version} and the libraries${library_version:+ $library_version} are of different versions: the driver was upgraded under a running system" \
    "reboot the machine; hold the driver's packages against unattended upgrades"
}

verdict_lost() {
  verdict gpu-lost fail "a GPU has fallen off the bus${smi_text:+: $(printf '%s' "$smi_text" | head -n 1 | cut -c 1-160)}" \
    "power the machine off and on; when it comes back, the card, its power or its slot is broken"
}

verdict_answers() {
  if [ -n "$module_version" ] && [ -n "$library_version" ] && [ "$module_version" != "$library_version" ]; then verdict_mismatch; fi
  if [ -n "$smi_text" ] || [ -n "$(kernel_says 'NVRM:.*fallen off the bus|Xid.*: 79,')" ]; then verdict_lost; fi
  expected="${DRIVER_EXPECTED_GPUS:-$gpus_on_bus}"
  cure="look for NVRM and Xid in the kernel's log; reboot, then power the machine off and on"
  if [ "$gpus_seen" -lt "$expected" ]; then
    verdict gpus-missing fail "the driver sees $gpus_seen of $expected GPUs" "$cure"
  elif [ "$gpus_seen" -lt "$gpus_on_bus" ]; then
    # A card for the display may be too old for the driver that the others need.
    verdict gpus-missing warn "the driver sees $gpus_seen of the $gpus_on_bus GPUs on the bus" "$cure"
  fi
  branch="${smi_version%%.*}"
  if [ -n "${DRIVER_FLOOR:-}" ] && [ "${branch:-0}" -lt "$DRIVER_FLOOR" ]; then
    verdict driver-too-old fail "driver $smi_version is too old: the runtime needs branch $DRIVER_FLOOR" "driver.policy: ensure upgrades it"
  else
    verdict driver ok "driver $smi_version answers and sees $gpus_seen GPUs"
  fi
  if [ "$nvswitches" -gt 0 ] || [ "${DRIVER_FABRIC:-}" = true ]; then verdict_fabric; fi
  [ "${DRIVER_QUICK:-}" != 1 ] || return 0
  verdict_cuda
  strangers="$(gpu_strangers | LC_ALL=C awk '{ printf "%sprocess %s (%s)", separator, $1, $2; separator = ", " }')"
  if [ -n "$strangers" ]; then verdict in-use warn "GPUs are in use by others: $strangers" "stop them, or choose other devices"; fi
}

verdict_fabric() {
  version="$(timeout 10 nv-fabricmanager --version 2>/dev/null | LC_ALL=C sed -n 's/.*[^0-9.]\([0-9][0-9]*\.[0-9][0-9.]*\).*/\1/p' | head -n 1)"
  if [ -z "$version" ]; then
    verdict fabric-manager-missing fail "NVSwitches without a fabric manager: CUDA can't start (error 802)" "install nvidia-fabricmanager of version $smi_version"
  elif [ "$version" != "$smi_version" ]; then
    verdict fabric-manager-version fail "the fabric manager is $version, the driver $smi_version: it refuses to start" "install nvidia-fabricmanager of version $smi_version"
  elif [ -d /run/systemd/system ] && ! systemctl is-active --quiet nvidia-fabricmanager; then
    verdict fabric-manager-stopped fail "the fabric manager does not run" "systemctl enable --now nvidia-fabricmanager; its log says why it stopped"
  else
    verdict fabric-manager ok "the fabric manager $version runs"
  fi
}

verdict_cuda() {
  interpreter="$(command -v python3 || :)"
  if [ -z "$interpreter" ]; then
    verdict cuda warn "CUDA was not initialised: there is no Python; nvidia-smi answers" "install python3 for the full proof"
    return
  fi
  outcome="$(timeout -k 1 60 "$interpreter" -ESsB "$TANDEM_SCRIPTS_DIR/driver_cuda.py" 2>/dev/null || :)"
  case "$outcome" in
    "ok $gpus_seen") verdict cuda ok "CUDA initialises and sees $gpus_seen GPUs" ;;
    "ok "*) verdict cuda-failed fail "CUDA sees ${outcome#ok } GPUs, nvidia-smi $gpus_seen" "check CUDA_VISIBLE_DEVICES and the fabric manager" ;;
    "missing 0") verdict cuda-failed fail "libcuda.so.1 is missing" "install the driver's compute libraries of version $smi_version" ;;
    "error 802") verdict cuda-failed fail "CUDA can't start: system not yet initialised (802)" "the fabric manager must run, in the driver's version" ;;
    "error "*) verdict cuda-failed fail "CUDA can't start: error ${outcome#error }" "look for NVRM and Xid in the kernel's log" ;;
    *) verdict driver-hangs fail "CUDA did not start within 60 s" "reboot the machine" ;;
  esac
}
