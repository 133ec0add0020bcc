#!/bin/sh
# The runner's only entry to a host: starts a step's work detached, attaches to it, checks, stops, sweeps; see
# docs/architecture.md, "Work".
# Usage: work.sh apply STEP | undo STEP | check | stop | sweep | reboot | logs [STEP]
# Reads: TANDEM_STACK            id of the stack on this host
#        TANDEM_HOST_DIR, TANDEM_CACHE_DIR, TANDEM_SCRIPTS_DIR   see common.sh
#        TANDEM_CALL, TANDEM_SHOWN   id of the client's call, and "<work> <lines>" that it has shown: a call that is made again
#                                after a cut link finds its work and goes on there
#        TANDEM_BOOT_ID          the boot that a restart is to end
#        standard input of apply and undo: JSON of values, JSON document, JSON of secrets, one a line. Values start with
#        TANDEM_; of those TANDEM_TIMEOUT_SECONDS limits the work and TANDEM_REPAIR is stored when apply succeeds.
TANDEM_SCRIPTS_DIR="${TANDEM_SCRIPTS_DIR:-$(cd "$(dirname "$0")" && pwd)}"
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=work-steps.sh
. "$TANDEM_SCRIPTS_DIR/work-steps.sh"

# Only where something is taken away: a look at a host and a step's work do without all that this reads.
sweep_all() {
  # shellcheck source=work-sweep.sh
  . "$TANDEM_SCRIPTS_DIR/work-sweep.sh"
  sweep
}

# Reads the request and starts or attaches to `verb` of `step`; ends with the work's exit status.
apply_or_undo() {
  step="$2"
  require_step "$step"
  read_request
  if [ "$1" = undo ] && [ ! -d "$TANDEM_STACK_DIR/steps/$step" ]; then
    say "$step: nothing to undo"
    return 0
  fi
  use_step "$step"
  begin_or_attach "$1"
  attach
}

check_steps() {
  [ -d "$TANDEM_STACK_DIR/steps" ] || return 0
  answers="$(mktemp -d "$TANDEM_STACK_DIR/check.XXXXXX")"
  trap 'rm -rf "$answers"' EXIT
  set --
  for name in $(steps_in_order); do
    check_step "$name" "$answers/$name.reason" >"$answers/$name" &
    set -- "$@" "$answers/$name"
  done
  wait
  [ "$#" -eq 0 ] || cat "$@"
}

# Restarts the host a moment later, so that the client gets its answer. A call that is made again after the restart does nothing.
reboot_host() {
  boot_id="$(cat /proc/sys/kernel/random/boot_id)"
  if [ "${TANDEM_BOOT_ID:-$boot_id}" != "$boot_id" ]; then return; fi
  [ "$(id -u)" -eq 0 ] || die 1 "this host has to be restarted, and $(id -un) may not do that — fix: connect as root or a user with sudo, or restart it"
  sync
  systemd-run -q --on-active=1s --timer-property=AccuracySec=100ms systemctl reboot 2>/dev/null ||
    setsid sh -c 'sleep 1; shutdown -r now || reboot' >/dev/null 2>&1 </dev/null &
}

stop_steps() {
  for name in $(steps_in_order); do
    use_step "$name"
    if work_is_running; then
      say "stopping $name"
      stop_work "stopped on request"
    fi
  done
}

print_logs() {
  if [ -n "${1:-}" ]; then
    require_name step "$1"
    log_of "$1" || die 1 "$1 has no log on this host"
    return
  fi
  for name in $(steps_in_order); do
    echo "== $name"
    log_of "$name" || :
  done
}

main() {
  require_name TANDEM_STACK "${TANDEM_STACK:-}"
  case "${1:-}" in
    apply | undo) apply_or_undo "$1" "${2:-}" ;;
    check) check_steps ;;
    stop) stop_steps ;;
    reboot) reboot_host ;;
    sweep) sweep_all ;;
    logs) print_logs "${2:-}" ;;
    *) die 2 "work.sh — got '${1:-}' — allowed: apply STEP, undo STEP, check, stop, sweep, reboot, logs [STEP]" ;;
  esac
}

# Read whole before it runs, so that a newer version of this file can take its place meanwhile.
main "$@"
exit
