#!/bin/sh
# One work: runs a verb of a step with its limit and leaves an exit record. Started detached by work.sh and by nothing else.
# Usage: work-run.sh apply | undo, secrets as JSON on standard input, the step's work.lock on descriptor 8
# Reads: TANDEM_OWNER            <stack>/<step>
#        TANDEM_RUN_DIR          folder for log, result, exit
#        TANDEM_TIMEOUT_SECONDS  limit of the work
#        TANDEM_STACK, TANDEM_HOST_DIR, TANDEM_CACHE_DIR, TANDEM_SCRIPTS_DIR   see common.sh
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"

GRACE_SECONDS=5

# Written last: whoever attaches looks for it when the work is gone.
finish() {
  end_marked "$GRACE_SECONDS" "TANDEM_WORK=$TANDEM_RUN_DIR" || :
  : >"$TANDEM_RUN_DIR/reserve"
  [ "$1" -eq 0 ] || tell_full_disk
  if [ "$1" -eq 0 ]; then remember_success; fi
  # The reserve becomes the record: the disk has room for it by now, but maybe for no other file.
  echo "$1" >"$TANDEM_RUN_DIR/reserve"
  mv -f "$TANDEM_RUN_DIR/reserve" "$TANDEM_RUN_DIR/exit"
  exit "$1"
}

# What a step says on a full disk finds no room in its log; only the reserve that was just given back has some.
tell_full_disk() {
  full="$(df -Pk "$TANDEM_RUN_DIR" 2>/dev/null | awk 'NR == 2 && $4 < 64 { print $6 }')"
  [ -z "$full" ] || note "No space left on device: the disk at $full is full — fix: free some space there, then run it again"
}

# Here and not in the client, which may be dead by now.
remember_success() {
  case "$verb" in
    apply)
      mv -f "$TANDEM_RUN_DIR/token" "$step_dir/"
      echo applied >"$TANDEM_RUN_DIR/state"
      ;;
    undo) echo undone >"$TANDEM_RUN_DIR/state" ;;
  esac
  mv -f "$TANDEM_RUN_DIR/state" "$step_dir/"
}

stopped() {
  trap '' TERM INT HUP
  doing="$(last_line)"
  end_marked "$GRACE_SECONDS" "TANDEM_WORK=$TANDEM_RUN_DIR" || :
  note "$(cat "$TANDEM_RUN_DIR/why" 2>/dev/null || echo stopped), while doing: $doing"
  finish 143
}

# The name of a work's folder begins with the nanosecond in which it began.
limit_was_reached() {
  began="${TANDEM_RUN_DIR##*/}"
  [ $(($(date +%s%N) - ${began%%-*})) -ge $((TANDEM_TIMEOUT_SECONDS * 1000000000)) ]
}

note() { printf '%s\n' "$step: $1" >>"$TANDEM_RUN_DIR/log"; }

last_line() { tail -n 1 "$TANDEM_RUN_DIR/log" 2>/dev/null | cut -c 1-300; }

main() {
  verb="$1"
  step="${TANDEM_OWNER#*/}"
  step_dir="$TANDEM_STACK_DIR/steps/$step"
  exec 3<&0 </dev/null
  trap stopped TERM INT HUP
  if [ -f "$step_dir/values" ]; then
    limit="$TANDEM_TIMEOUT_SECONDS"
    # shellcheck source=/dev/null
    . "$step_dir/values"
    TANDEM_TIMEOUT_SECONDS="$limit"
    unset TANDEM_REPAIR
  fi
  export TANDEM_REQUEST="$step_dir/request.json"
  script="$step.sh"
  if [ "$verb" = undo ]; then script=undo-step.sh; fi
  # The mark is in the environment of all that the step starts, but not in our own.
  TANDEM_WORK="$TANDEM_RUN_DIR" timeout -k "$GRACE_SECONDS" "$TANDEM_TIMEOUT_SECONDS" \
    sh "$TANDEM_SCRIPTS_DIR/$script" "$verb" <&3 3<&- 8>&- >"$TANDEM_RUN_DIR/result" 2>>"$TANDEM_RUN_DIR/log" &
  exec 3<&-
  code=0
  wait "$!" || code=$?
  if { [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; } && limit_was_reached; then
    doing="$(last_line)"
    note "ended at its limit of $TANDEM_TIMEOUT_SECONDS s, while doing: $doing"
    code=124
  fi
  finish "$code"
}

main "$@"
exit
