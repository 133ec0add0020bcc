#!/bin/sh
# Examines this host: what would stand in the way of a deployment, and what is wrong with its GPUs. Changes nothing.
# Usage: doctor.sh            all checks
#        doctor.sh part NAME  one of them
# Reads: TANDEM_STACK      whose lease, units and processes are our own
#        TANDEM_PORT       the port that will be needed
#        TANDEM_TARGET     local or ssh: on a machine of one's own a missing root is no trouble
#        TANDEM_EXCLUSIVE  true when no other stack may be on this host
#        TANDEM_GPUS       how many GPUs are wanted: all or a number
#        TANDEM_DOCTOR_SECONDS  limit of all checks together; 25 without it
# Prints lines of four fields with tabs between them: code, verdict (ok, warn or fail), text, cure. Where the verdict is
# `data`, the client judges: the text of `time` is this host's clock, of `links` GPU pairs, of `xid` one kind of GPU error.
TANDEM_SCRIPTS_DIR="${TANDEM_SCRIPTS_DIR:-$(cd "$(dirname "$0")" && pwd)}"
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=bounded.sh
. "$TANDEM_SCRIPTS_DIR/bounded.sh"

PARTS="system privileges disk memory packages boot port services python index lease kernel driver gpu links"

# verdict CODE ok|warn|fail|data TEXT [CURE]
verdict() {
  printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$(one_line "$3")" "$(one_line "${4:-}")"
}

one_line() { printf '%s' "$1" | LC_ALL=C tr '\t\n\r' '   ' | cut -c 1-600; }

examine() {
  # At once, so that the client can compare it with its own clock.
  verdict time data "$(date +%s)"
  # shellcheck disable=SC2086 # A list of names.
  bounded_run "$TANDEM_SCRIPTS_DIR/doctor.sh" "${TANDEM_DOCTOR_SECONDS:-25}" $PARTS
  for part in $PARTS; do
    cat "$bounded/$part"
    if [ ! -e "$bounded/$part.done" ]; then
      verdict "$part" fail "no answer within ${TANDEM_DOCTOR_SECONDS:-25} s" "$(cure_of_silence "$part")"
    elif [ -s "$bounded/$part.err" ] && [ ! -s "$bounded/$part" ]; then
      verdict "$part" warn "could not be checked: $(tail -n 1 "$bounded/$part.err")"
    fi
  done
}

cure_of_silence() {
  case "$1" in
    driver | gpu | links) echo "the driver hangs: reboot the host; if it comes back, look for Xid errors in the kernel's log" ;;
    disk) echo "a file system does not answer: look at mount and the kernel's log" ;;
    *) echo "the host is overloaded or a device of it hangs: look at uptime and the kernel's log" ;;
  esac
}

# shellcheck source=doctor-system.sh
# shellcheck source=doctor-services.sh
# shellcheck source=doctor-kernel.sh
# shellcheck source=doctor-gpu.sh
run_part() {
  case "$1" in
    system | privileges | disk | memory | port | python | index) . "$TANDEM_SCRIPTS_DIR/doctor-system.sh" ;;
    packages | boot | services | lease) . "$TANDEM_SCRIPTS_DIR/doctor-services.sh" ;;
    kernel) . "$TANDEM_SCRIPTS_DIR/doctor-kernel.sh" ;;
    driver | gpu | links) . "$TANDEM_SCRIPTS_DIR/doctor-gpu.sh" ;;
    *) die 2 "doctor.sh part — got '$1' — allowed: $PARTS" ;;
  esac
  # One broken check must not hide what the same part has found already.
  set +e
  "check_$1"
}

main() {
  case "${1:-}" in
    '') examine ;;
    part) run_part "${2:-}" ;;
    *) die 2 "doctor.sh — got '$1' — allowed: nothing, or part NAME" ;;
  esac
}

main "$@"
exit
