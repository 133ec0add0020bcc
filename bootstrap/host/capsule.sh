#!/bin/sh
# Collects what explains the failure of a step, as text with a heading for each part. Changes nothing. The client takes secrets
# out before it keeps anything.
# Usage: capsule.sh            all parts
#        capsule.sh part NAME  one of them
# Reads: TANDEM_STACK, TANDEM_STEP   the step that failed
#        TANDEM_CAPSULE_SECONDS      limit of all parts together; 11 without it
TANDEM_SCRIPTS_DIR="${TANDEM_SCRIPTS_DIR:-$(cd "$(dirname "$0")" && pwd)}"
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=bounded.sh
. "$TANDEM_SCRIPTS_DIR/bounded.sh"

PARTS="step unit journal kernel boot memory gpu disk versions request checks doctor"
# Of one part, in bytes: all of them together stay below 1 MiB.
PART_BYTES=80000

collect() {
  # shellcheck disable=SC2086 # A list of names.
  bounded_run "$TANDEM_SCRIPTS_DIR/capsule.sh" "${TANDEM_CAPSULE_SECONDS:-11}" $PARTS
  for part in $PARTS; do
    printf '## %s\n' "$(title_of "$part")"
    tail -c "$PART_BYTES" "$bounded/$part"
    [ -e "$bounded/$part.done" ] || echo "(no answer within ${TANDEM_CAPSULE_SECONDS:-11} s)"
    [ -s "$bounded/$part" ] || { echo "(nothing)" && tail -n 3 "$bounded/$part.err"; }
    echo
  done
}

title_of() {
  case "$1" in
    step) echo "Log of the step" ;;
    unit) echo "Service: status and log" ;;
    journal) echo "systemd's journal of our units" ;;
    kernel) echo "Kernel: GPU, memory and disk errors since boot" ;;
    boot) echo "Boot script (cloud-init)" ;;
    memory) echo "Memory" ;;
    gpu) echo "GPUs" ;;
    disk) echo "Disks" ;;
    versions) echo "Versions" ;;
    request) echo "Request of the step" ;;
    checks) echo "Which steps hold" ;;
    doctor) echo "Verdicts of tandem doctor" ;;
  esac
}

step_dir() { printf '%s/steps/%s' "$TANDEM_STACK_DIR" "$TANDEM_STEP"; }

part_step() {
  [ -f "$(step_dir)/current" ] || { echo "(the step never ran on this host)" && return; }
  run="$(step_dir)/runs/$(cat "$(step_dir)/current")"
  echo "exit: $(cat "$run/exit" 2>/dev/null || echo none)  why: $(cat "$run/why" 2>/dev/null || echo -)"
  tail -n 400 "$run/log"
}

part_unit() {
  for folder in "$TANDEM_STACK_DIR"/units/*/; do
    [ -d "$folder" ] || continue
    echo "--- $folder ($(cat "$folder/manager" 2>/dev/null))"
    cat "$folder/status.json" "$folder/supervisor.err" 2>/dev/null
    echo
    tail -n 400 "$folder/log" 2>/dev/null
  done
}

part_journal() {
  command -v journalctl >/dev/null 2>&1 || { echo "(no journal on this host)" && return; }
  timeout 6 journalctl -q --no-pager -b -n 300 -u "tandem-$TANDEM_STACK-*" 2>&1
  [ "$(id -u)" -eq 0 ] || timeout 6 journalctl -q --no-pager -b -n 300 --user -u "tandem-$TANDEM_STACK-*" 2>&1
}

part_kernel() {
  # shellcheck source=kernel-log.sh
  . "$TANDEM_SCRIPTS_DIR/kernel-log.sh"
  kernel_lines 'NVRM|nvidia|nouveau|Out of memory|oom-kill|I/O error|EXT4-fs error|XFS .*(shutdown|error)|Remounting|lockup|segfault|Key was' |
    tail -n 200 | sed 's/^\([0-9]*\) /\1 s ago: /' || echo "(the kernel's log can't be read by $(id -un))"
}

part_boot() {
  [ -d /run/cloud-init ] || [ -f /var/log/cloud-init-output.log ] || { echo "(no cloud-init on this host)" && return; }
  cat /run/cloud-init/result.json 2>/dev/null
  tail -n 60 /var/log/cloud-init-output.log 2>&1
}

part_memory() {
  free -m
  df -h /dev/shm
  ps -eo pid,user,rss,etimes,comm --sort=-rss | head -n 15
}

part_gpu() {
  command -v nvidia-smi >/dev/null 2>&1 || { echo "(no nvidia-smi on this host)" && return; }
  timeout 5 nvidia-smi 2>&1
  timeout 5 nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory,process_name --format=csv 2>&1
}

part_disk() {
  timeout 5 df -hT -x tmpfs -x devtmpfs -x overlay 2>&1 || :
  timeout 5 df -h "$TANDEM_HOST_DIR" 2>&1 || :
  timeout 5 df -i / 2>&1
  awk '$4 ~ /(^|,)ro(,|$)/ && $3 !~ /squashfs|iso9660|cgroup|sysfs|proc/ { print "read-only: " $1 " on " $2 " (" $3 ")" }' /proc/mounts
}

part_versions() {
  uname -a
  (. /etc/os-release && echo "system: ${PRETTY_NAME:-}")
  cat /proc/driver/nvidia/version 2>/dev/null
  echo "uptime: $(cut -d' ' -f1 /proc/uptime) s, time: $(date -u +%Y-%m-%dT%H:%M:%SZ)"
  for runtime in "$TANDEM_CACHE_DIR"/runtimes/*/; do
    [ -d "$runtime" ] || continue
    echo "runtime: $(basename "$runtime")"
    find "$runtime"lib/python*/site-packages -maxdepth 1 -name 'vllm*.dist-info' 2>/dev/null | sed 's/.*\//  /'
  done
}

part_request() {
  cat "$(step_dir)/values" "$(step_dir)/request.json" "$TANDEM_STACK_DIR"/units/*/unit.json 2>/dev/null
}

part_checks() { timeout 8 sh "$TANDEM_SCRIPTS_DIR/work.sh" check; }

part_doctor() { TANDEM_DOCTOR_SECONDS=8 DRIVER_QUICK=1 sh "$TANDEM_SCRIPTS_DIR/doctor.sh" | awk -F'	' '$2 == "warn" || $2 == "fail"'; }

main() {
  require_name TANDEM_STEP "${TANDEM_STEP:-}"
  case "${1:-}" in
    '') collect ;;
    part)
      set +e
      "part_$2"
      ;;
    *) die 2 "capsule.sh — got '$1' — allowed: nothing, or part NAME" ;;
  esac
}

main "$@"
exit
