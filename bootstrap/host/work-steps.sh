# shellcheck shell=sh
# Sourced by work.sh: one step's folder and its work. A step's folder holds
#   lock       held while somebody decides what to start       work.lock  held by the running work itself
#   runs/<id>  one work: log, result, exit, digest, token, pid, reserve, state (what the step's becomes at its end), and calls: ids
#              of the client's calls that began or joined it
#   current    id of the newest
#   values, request.json, token, state, sequence                of the last apply
#   files      for the step's own use ($TANDEM_STEP_DIR)
# use_step sets: step, step_dir. begin_or_attach sets: run_dir.

require_step() {
  require_name step "$1"
  [ -f "$TANDEM_SCRIPTS_DIR/$1.sh" ] || die 2 "there is no step $1"
}

use_step() {
  step="$1"
  step_dir="$TANDEM_STACK_DIR/steps/$step"
}

# Step names, oldest first.
steps_in_order() {
  for file in "$TANDEM_STACK_DIR"/steps/*/sequence; do
    [ -f "$file" ] || continue
    read_line "$file"
    folder="${file%/sequence}"
    # shellcheck disable=SC2154 # read_line sets it.
    printf '%s %s\n' "$file_line" "${folder##*/}"
  done | sort -n | while read -r _ name; do printf '%s\n' "$name"; done
}

# The three lines of the request. Without any, as for an undo by hand, they are empty objects.
read_request() {
  values='{}' document='{}' secrets='{}'
  if IFS= read -r line; then values="$line"; fi
  if IFS= read -r line; then document="$line"; fi
  if IFS= read -r line; then secrets="$line"; fi
  assignments="$(printf '%s' "$values" | json_assignments 'export ' TANDEM_)" ||
    die 2 "the first line of the request is not a JSON object of TANDEM_ values"
  TANDEM_REPAIR='' TANDEM_TIMEOUT_SECONDS=3600
  eval "$assignments"
  case "$TANDEM_TIMEOUT_SECONDS" in
    '' | *[!0-9]*) die 2 "TANDEM_TIMEOUT_SECONDS — got '$TANDEM_TIMEOUT_SECONDS' — allowed: whole seconds" ;;
  esac
}

work_is_running() {
  [ -f "$step_dir/work.lock" ] || return 1
  # The work holds the lock as long as it lives, however it ends.
  ! flock -n -s "$step_dir/work.lock" true
}

# Whether the newest work has said how it ended, or is gone without a word.
work_has_ended() {
  read_line "$step_dir/current"
  newest="$step_dir/runs/$file_line"
  if [ -f "$newest/exit" ]; then return 0; fi
  read_line "$newest/pid"
  [ ! -e "/proc/${file_line:-none}" ]
}

# What the request asks for: the repair token, the limit and who asks don't make it another one.
request_digest() {
  { printf '%s\n' "$1" "$assignments" | grep -vE "^export TANDEM_(REPAIR|TIMEOUT_SECONDS|CLIENT)=" || :
    printf '%s\n' "$document" "$secrets"; } | sha256sum
}

# begin_or_attach VERB: leaves $run_dir set to a work that runs or has just ended.
begin_or_attach() {
  private_dir "$TANDEM_HOST_DIR" "$TANDEM_HOST_DIR/stacks" "$TANDEM_STACK_DIR"
  mkdir -p "$step_dir/runs" "$step_dir/files"
  exec 9>>"$step_dir/lock"
  flock -w 60 9 || die 75 "$step: another client has been starting work on this step for a minute — fix: try again"
  earlier="$(run_of_call)"
  if [ -n "$earlier" ] && [ -f "$earlier/exit" ]; then
    run_dir="$earlier"
    exec 9>&-
    return
  fi
  digest="$(request_digest "$1")"
  digest="${digest%% *}"
  exec 8>>"$step_dir/work.lock"
  # Not at once: whoever looks whether the work runs takes the lock for a moment, which is long on a busy host.
  patience_seconds=0.2
  if work_has_ended; then patience_seconds=10; fi
  if ! flock -w "$patience_seconds" 8; then
    run_dir="$step_dir/runs/$(cat "$step_dir/current")"
    if [ "$(cat "$run_dir/digest")" = "$digest" ]; then
      [ "$run_dir" = "$earlier" ] || say "$step: already being done, attaching"
      printf '%s' "$TANDEM_REPAIR" | write_file "$run_dir/token"
      printf '%s\n' "${TANDEM_CALL:-}" >>"$run_dir/calls"
      exec 8>&- 9>&-
      return
    fi
    say "$step: stopping the work of an earlier request"
    stop_work "stopped by a request with other values"
    flock -w 10 8 || die 75 "$step: the earlier work could not be stopped"
  fi
  end_orphans
  [ -z "$earlier" ] || say "$step: its work ended with the host's restart; doing it again"
  begin "$1"
  exec 8>&- 9>&-
}

# The work that this very call of the client began or joined before its link was cut.
run_of_call() {
  if [ -z "${TANDEM_CALL:-}" ] || [ ! -f "$step_dir/current" ]; then return 0; fi
  found="$(grep -lxF -e "$TANDEM_CALL" "$step_dir"/runs/*/calls 2>/dev/null | tail -n 1)"
  printf '%s' "${found%/calls}"
}

# A work that was killed could not end what it had started.
end_orphans() {
  [ -f "$step_dir/current" ] || return 0
  last="$step_dir/runs/$(cat "$step_dir/current")"
  if [ ! -f "$last/exit" ]; then end_marked 2 "TANDEM_WORK=$last" || say "$step: some processes of a killed work can't be ended"; fi
}

# Starts the work. It inherits the lock on descriptor 8, so there is no moment in which it runs unlocked.
begin() {
  now="$(date +%s%N)"
  id="$now-$$"
  run_dir="$step_dir/runs/$id"
  mkdir "$run_dir"
  printf '%s' "$TANDEM_REPAIR" >"$run_dir/token"
  printf '%s' "$digest" >"$run_dir/digest"
  printf '%s\n' "${TANDEM_CALL:-}" >"$run_dir/calls"
  : >"$run_dir/log"
  # Given back at the end, so that a work can say how it ended when the disk is full by then.
  printf '%16384s' '' >"$run_dir/reserve"
  verb="$1"
  write_down_request || die 1 "$step: can't be written down in $run_dir — fix: look whether the disk is full"
  # For how it ends, when the disk has no place for another file by then.
  : >"$run_dir/state"
  # Secrets go through a pipe that only the work reads: never on disk, in argv or in an environment.
  printf '%s\n' "$secrets" | clean_environment setsid sh "$TANDEM_SCRIPTS_DIR/work-run.sh" "$verb" >/dev/null 2>&1 9>&- 5>&- &
  # In a pipeline $! is its last command, which setsid turns into the work without forking.
  printf '%s' "$!" >"$run_dir/pid"
  forget_old_runs
}

# What is done last names the new work; each file takes its place in one go, and whole.
write_down_request() {
  printf '%s' "$id" >"$run_dir/current" || return 1
  if [ "$verb" != apply ]; then
    mv -f "$run_dir/current" "$step_dir/"
    return
  fi
  [ -f "$step_dir/sequence" ] || printf '%s\n' "$now" >"$step_dir/sequence" || return 1
  printf '%s\n' "$assignments" >"$run_dir/values" && printf '%s\n' "$document" >"$run_dir/request.json" &&
    echo begun >"$run_dir/state" &&
    mv -f "$run_dir/values" "$run_dir/request.json" "$run_dir/state" "$run_dir/current" "$step_dir/"
}

# What the client carries for Pulumi and the cloud is no business of a work that may outlive it.
clean_environment() {
  for name in $(env | LC_ALL=C sed -n 's/^\(\(PULUMI\|AWS\|AZURE\|GOOGLE\)_[A-Za-z0-9_]*\)=.*/\1/p'); do unset "$name"; done
  export TANDEM_STACK TANDEM_TIMEOUT_SECONDS
  export TANDEM_OWNER="$TANDEM_STACK/$step" TANDEM_RUN_DIR="$run_dir" TANDEM_STEP_DIR="$step_dir/files"
  unset TANDEM_REPAIR TANDEM_CALL TANDEM_SHOWN
  exec "$@"
}

forget_old_runs() {
  set -- "$step_dir"/runs/*
  [ "$#" -gt 3 ] || return 0
  find "$step_dir/runs" -mindepth 1 -maxdepth 1 -type d | sort -r | tail -n +4 |
    # A clock that was set back puts the newest last.
    while IFS= read -r old; do [ "$old" = "$run_dir" ] || rm -rf "$old"; done
}

# Shows the work's progress until it ends, prints its result, ends with its status.
attach() {
  first_line=1
  if [ -n "${TANDEM_CALL:-}" ]; then
    say "tandem-log: ${run_dir##*/}"
    if [ "${TANDEM_SHOWN% *}" = "${run_dir##*/}" ]; then first_line=$((${TANDEM_SHOWN#* } + 1)); fi
  fi
  if [ -f "$run_dir/exit" ]; then
    # Its process id may be another program's by now.
    tail -n "+$first_line" "$run_dir/log" >&2
  else
    read_line "$run_dir/pid"
    tail -n "+$first_line" -f -s 0.05 --pid="$file_line" "$run_dir/log" >&2 2>/dev/null || exit 141
  fi
  if [ ! -f "$run_dir/exit" ]; then
    say "$step: its work was killed before it could say how it ended — fix: run it again"
    exit 137
  fi
  read_line "$run_dir/exit" && code="$file_line"
  read_line "$step_dir/state"
  if [ "$code" -eq 0 ]; then tail -n 1 "$run_dir/result"; fi
  if [ "$code" -eq 0 ] && [ "$file_line" = undone ]; then rm -rf "$step_dir"; fi
  return "$code"
}

# Ends the running work with everything that it started: stop_work WHY
stop_work() {
  stopped_dir="$step_dir/runs/$(cat "$step_dir/current")"
  printf '%s\n' "$1" >"$stopped_dir/why"
  kill -s TERM "$(cat "$stopped_dir/pid")" 2>/dev/null || :
  if ! flock -w 12 -s "$step_dir/work.lock" true; then
    kill -s KILL "$(cat "$stopped_dir/pid")" 2>/dev/null || :
  fi
  end_marked 1 "TANDEM_WORK=$stopped_dir" || say "$step: some of its processes can't be ended"
}

# One JSON line on whether the step holds: check_step STEP FILE. It runs for every step at every look, so that it starts little:
# FILE is where a check writes its reasons.
check_step() {
  use_step "$1"
  read_line "$step_dir/current"
  # A work that left its exit record does not run any more.
  if [ ! -f "$step_dir/runs/$file_line/exit" ] && work_is_running; then worked_on=true; else worked_on=false; fi
  # After that look: one that has ended by then has written down what became of the step.
  read_line "$step_dir/state" && state="$file_line"
  read_line "$step_dir/token" && token="$file_line"
  if [ "${state:-undone}" = undone ]; then return 0; fi
  if [ "$worked_on" = true ]; then
    print_check false "it is being worked on"
  elif [ "$state" != applied ]; then
    print_check false "its last apply did not finish"
  else
    code=0
    run_check >"$2" || code=$?
    reason=''
    if [ -s "$2" ]; then reason="$(tr '\n' ';' <"$2" | sed 's/;$//; s/;/; /g')"; fi
    case "$code" in
      0) print_check true '' ;;
      10) print_check false "${reason:-its check gave no reason}" ;;
      # What can't be told must not cause a change.
      *) print_check true "could not be checked (exit $code)${reason:+: $reason}" ;;
    esac
  fi
}

run_check() {
  # shellcheck source=/dev/null
  . "$step_dir/values"
  export TANDEM_REQUEST="$step_dir/request.json" TANDEM_STEP_DIR="$step_dir/files"
  timeout -k 1 5 sh "$TANDEM_SCRIPTS_DIR/$step.sh" check </dev/null 2>/dev/null
}

# print_check HOLDS REASON; reads $step and $token
print_check() {
  # shellcheck disable=SC2154 # json_quote sets it.
  json_quote "$token" && quoted_token="$quoted"
  json_quote "$2"
  printf '{"step":"%s","holds":%s%s,"token":%s}\n' "$step" "$1" "${2:+,\"reason\":$quoted}" "$quoted_token"
}

# The log of the step's unit, else of its last work.
log_of() {
  use_step "$1"
  unit_log="$TANDEM_STACK_DIR/units/$1/log"
  if [ -f "$unit_log" ]; then
    if [ -f "$unit_log.1" ]; then cat "$unit_log.1"; fi
    cat "$unit_log"
    return
  fi
  [ -f "$step_dir/current" ] || return 1
  cat "$step_dir/runs/$(cat "$step_dir/current")/log"
}
