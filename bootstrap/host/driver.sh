#!/bin/sh
# The NVIDIA driver: a good one is left alone and proven, a missing or old one is installed where `policy` is ensure.
# Reads: TANDEM_REQUEST    { policy: keep | ensure, branch, floor?, module: open | proprietary, expectedGpus?, fabricManager,
#                            subnetManager, container, reboot, onDestroy: keep | remove, repository?, toolkitRepository? }
#        TANDEM_STEP_DIR   remembers the result for check, and in which boot a reboot was asked for
# Result: { version, branch, module, gpus, installed, cuda: proven | not tried, warnings: [...] }
# Exit status of a failed apply: 60 a reboot is needed (apply again after it), 61 needed but not allowed, 62 dpkg is in use,
#   63 packages can't be installed, 64 not on this system, 65 a verdict of driver-verdict.sh, 66 others use the GPUs
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=driver-verdict.sh
. "$TANDEM_SCRIPTS_DIR/driver-verdict.sh"
# shellcheck source=driver-install.sh
. "$TANDEM_SCRIPTS_DIR/driver-install.sh"

# What a reboot cures.
CURED_BY_REBOOT='nouveau driver-hangs driver-not-loaded version-mismatch gpu-lost'
# What installing cures.
CURED_BY_INSTALLING='driver-missing driver-too-old wrong-module no-headers fabric-manager-missing fabric-manager-version'

check() {
  [ -f "$TANDEM_STEP_DIR/result.json" ] || does_not_hold "the driver was not proven"
  eval "$(json_assignments result_ <"$TANDEM_STEP_DIR/result.json")"
  read_needs
  DRIVER_QUICK=1 TANDEM_SMI_SECONDS=3
  verdicts="$(driver_verdicts)"
  failed="$(failing)"
  [ -z "$failed" ] || does_not_hold "$failed"
  found="$(driver_version_in "$verdicts")"
  # shellcheck disable=SC2154 # Read from the result.
  [ "$found" = "$result_version" ] || does_not_hold "the driver is $found, not $result_version"
}

read_needs() {
  read_document
  # shellcheck disable=SC2034,SC2154 # Read from the document; read by driver-verdict.sh and driver-packages.sh.
  DRIVER_FLOOR="${doc_floor:-}" DRIVER_EXPECTED_GPUS="${doc_expectedGpus:-}" DRIVER_FABRIC="${doc_fabricManager:-}" \
    want_branch="$doc_branch" want_module="${doc_module:-open}" want_fabric="${doc_fabricManager:-false}" want_subnet="${doc_subnetManager:-false}"
}

# "code: text — fix: cure" of each failing verdict.
failing() { printf '%s\n' "$verdicts" | LC_ALL=C awk -F '\t' '$2 == "fail" { print $1 ": " $3 ($4 == "" ? "" : " — fix: " $4) }'; }

# Whether one of these codes fails: has_failed 'CODE...'
has_failed() {
  printf '%s\n' "$verdicts" | LC_ALL=C awk -F '\t' -v codes=" $1 " '$2 == "fail" && index(codes, " " $1 " ") { found = 1 } END { exit !found }'
}

driver_version_in() { printf '%s\n' "$1" | LC_ALL=C awk -F '\t' '$1 == "driver" && $2 == "ok" { split($3, word, " "); print word[2] }'; }

apply() {
  read_needs
  rm -f "$TANDEM_STEP_DIR/result.json"
  look
  if [ -n "$(failing)" ]; then mend; fi
  # shellcheck disable=SC2154 # Read from the document.
  if [ "${doc_container:-false}" = true ]; then install_container_toolkit; fi
  finish_apply
}

look() {
  verdicts="$(driver_verdicts)"
}

# Something fails: installs or has the machine rebooted where that is allowed and cures it, else says what it is.
mend() {
  # shellcheck disable=SC2154
  [ "$doc_policy" = ensure ] || give_up
  if ! has_failed "$CURED_BY_INSTALLING $CURED_BY_REBOOT fabric-manager-stopped"; then give_up; fi
  refuse_strangers
  # Between an installation and the reboot that it asked for, nothing more is installed.
  if has_failed "$CURED_BY_INSTALLING" && [ ! -f "$TANDEM_STEP_DIR/reboot-asked" ]; then
    stop_own_units
    remember_former
    install_driver
    printf '%s' "$driver_version" | write_file "$TANDEM_STEP_DIR/installed"
    load_modules
    start_services
    look
  elif has_failed nouveau; then
    switch_nouveau_off
  elif has_failed "driver-not-loaded fabric-manager-stopped"; then
    load_modules
    start_services
    look
  fi
  [ -n "$(failing)" ] || return 0
  if has_failed "$CURED_BY_REBOOT driver-too-old" || [ -e /run/reboot-required ]; then need_reboot; fi
  give_up
}

give_up() {
  say "$(failing)"
  die 65 "$(failing | head -n 1)"
}

refuse_strangers() {
  probe_driver
  strangers="$(gpu_strangers | LC_ALL=C awk '{ printf "%sprocess %s (%s)", separator, $1, $2; separator = ", " }')"
  if [ -n "$strangers" ]; then die 66 "in-use: changing the driver would end what uses the GPUs: $strangers — fix: stop them, then run this again"; fi
}

# A module that is in use can't be replaced.
stop_own_units() {
  # shellcheck source=unit.sh
  . "$TANDEM_SCRIPTS_DIR/unit.sh"
  for folder in "$TANDEM_STACK_DIR"/units/*/; do
    if [ -d "$folder" ]; then
      say "stopping $(basename "$folder"), which uses the driver"
      unit_stop "$(basename "$folder")"
    fi
  done
}

# An older driver that was replaced can't be had back, so the new one stays whatever onDestroy says.
remember_former() {
  if [ "$smi" = missing ] || [ -f "$TANDEM_STEP_DIR/former" ] || [ -f "$TANDEM_STEP_DIR/installed" ]; then return 0; fi
  former="${smi_version:-${module_version:-${library_version:-of unknown version}}}"
  printf '%s' "$former" | write_file "$TANDEM_STEP_DIR/former"
}

# Without a reboot where that works: nothing else holds the GPUs and no older module is loaded.
load_modules() {
  if module_is_loaded nouveau || module_is_loaded nvidia; then return 0; fi
  for module in nvidia nvidia_uvm; do modprobe "$module" 2>/dev/null || return 0; done
}

start_services() {
  if [ -d /run/systemd/system ] && command -v nv-fabricmanager >/dev/null 2>&1; then
    systemctl enable --quiet --now nvidia-fabricmanager 2>/dev/null || :
  fi
}

need_reboot() {
  boot="$(cat /proc/sys/kernel/random/boot_id)"
  asked_in="$(cat "$TANDEM_STEP_DIR/reboot-asked" 2>/dev/null || :)"
  # One reboot is worth a try; what it did not cure, a second one won't.
  if [ -n "$asked_in" ] && [ "$asked_in" != "$boot" ]; then
    rm -f "$TANDEM_STEP_DIR/reboot-asked"
    say "the machine was rebooted, and still:"
    give_up
  fi
  # shellcheck disable=SC2154
  if [ "${doc_reboot:-true}" != true ]; then
    die 61 "the machine must be rebooted, which driver.reboot: false forbids ($(failing | head -n 1)) — fix: reboot it, then run this again"
  fi
  printf '%s' "$boot" | write_file "$TANDEM_STEP_DIR/reboot-asked"
  die 60 "the driver needs a reboot — fix: reboot the machine, then run this again"
}

finish_apply() {
  version="$(driver_version_in "$verdicts")"
  rm -f "$TANDEM_STEP_DIR/reboot-asked"
  installed=false proven="not tried"
  if [ "$(cat "$TANDEM_STEP_DIR/installed" 2>/dev/null)" = "$version" ]; then installed=true; fi
  if printf '%s\n' "$verdicts" | grep -q "^cuda$(printf '\t')ok"; then proven=proven; fi
  probe_driver
  printf '%s\n' "$verdicts" | LC_ALL=C awk -F '\t' '{ print $2 ": " $1 " — " $3 }' >&2
  printf '{"version":%s,"branch":%s,"module":%s,"gpus":%s,"installed":%s,"cuda":%s,"warnings":[%s]}\n' \
    "$(json_string "$version")" "${version%%.*}" "$(json_string "$module_kind")" "$gpus_seen" "$installed" \
    "$(json_string "$proven")" "$(warnings_json)" >"$TANDEM_STEP_DIR/result.json"
  cat "$TANDEM_STEP_DIR/result.json"
}

warnings_json() {
  separator=''
  printf '%s\n' "$verdicts" | LC_ALL=C awk -F '\t' '$2 == "warn" { print $1 ": " $3 }' | while read -r warning; do
    printf '%s%s' "$separator" "$(json_string "$warning")"
    separator=,
  done
}

# What the journal still has of this step is taken back after this. What stays is struck out of it here.
undo() {
  read_document
  reason=''
  if [ -f "$TANDEM_STEP_DIR/installed" ] && [ -f "$TANDEM_STEP_DIR/result.json" ]; then
    if [ "${doc_onDestroy:-keep}" = keep ]; then reason="driver.onDestroy: keep"; fi
    strangers="$(probe_driver && gpu_strangers | tr '\n' ' ')"
    if [ -n "$strangers" ]; then reason="others use the GPUs: $strangers"; fi
    if [ -f "$TANDEM_STEP_DIR/former" ]; then reason="it replaced the driver $(cat "$TANDEM_STEP_DIR/former"), which can't be had back"; fi
  fi
  if [ -n "$reason" ]; then
    keep_driver
  elif [ -f "$TANDEM_STEP_DIR/installed" ]; then
    say "removing the driver; what of it is loaded stays until the next boot"
    for module in nvidia_uvm nvidia_drm nvidia_modeset nvidia; do rmmod "$module" 2>/dev/null || :; done
    # initramfs is made anew by the removal of the packages, before nouveau's file goes; once more costs seconds.
    if journal_is_ours file "$NOUVEAU_FILE"; then
      rm -f "$NOUVEAU_FILE"
      journal_remove file "$NOUVEAU_FILE"
      update_initramfs
    fi
  fi
  rm -f "$TANDEM_STEP_DIR/result.json" "$TANDEM_STEP_DIR/installed" "$TANDEM_STEP_DIR/former" "$TANDEM_STEP_DIR/reboot-asked"
}

keep_driver() {
  installed="$(cat "$TANDEM_STEP_DIR/installed")"
  for number in $(journal_list "${TANDEM_OWNER#*/}" | cut -f 1); do journal_strike "$number"; done
  journal_add kept "NVIDIA driver $installed" "$reason"
  say "the NVIDIA driver $installed stays: $reason"
}

answer_step "$@"
exit
