#!/bin/sh
# The trainer as a unit of its own on this host, listening on loopback, started after vLLM.
# Reads: TANDEM_REQUEST    { argv: [...], env: {...}, port, startupSeconds, stopSeconds, adaptersMib?, ... }; argv starts with the trainer's
#                          Python; in argv and env {state}, {adapters} and {package} stand for folders of this host; adaptersMib limits
#                          the adapters' memory file system where it can be the stack's own, see training-memory.sh
#        TANDEM_STACK_DIR  the unit lives in its folder units/training, jobs and adapters in training/
#        standard input    { apiKey }; reaches the trainer as VLLM_API_KEY
# Result: { unitId, port, pid, logPath }
# Exit status of a failed apply: 29 no Python, 31 port taken, 33 can't be stopped,
# 35 no memory file system, 36 the trainer ended, 124 not ready in time
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=unit.sh
. "$TANDEM_SCRIPTS_DIR/unit.sh"
# shellcheck source=trainer-files.sh
. "$TANDEM_SCRIPTS_DIR/trainer-files.sh"
# shellcheck source=training-memory.sh
. "$TANDEM_SCRIPTS_DIR/training-memory.sh"

unit=training
# shellcheck disable=SC2034 # Read by unit-systemd.sh: vLLM measures the GPUs' memory while it is alone on them.
unit_after=serving
folder="$(unit_dir "$unit")"
state="$TANDEM_STACK_DIR/training"

check() {
  [ -f "$folder/result.json" ] || does_not_hold "the trainer was not started here"
  unit_status "$unit"
  # shellcheck disable=SC2154 # unit_status sets them.
  case "$unit_state" in
    running) ;;
    waiting) does_not_hold "the trainer keeps failing and is about to be started again (restart $unit_restarts)" ;;
    failed) does_not_hold "the trainer failed too often and was given up" ;;
    *) does_not_hold "the trainer is not running; repair starts it and its jobs go on from their last checkpoints" ;;
  esac
  eval "$(json_assignments result_ <"$folder/result.json")"
  # shellcheck disable=SC2154 # Read from the result.
  [ "$unit_digest" = "$result_digest" ] || does_not_hold "the trainer runs with other settings than were applied"
  drift="$(unit_drift "$unit")"
  [ -z "$drift" ] || does_not_hold "the trainer's unit: ${drift#restart }"
  drift="$(adapters_drift "$(cat "$folder/adapters")")"
  [ -z "$drift" ] || does_not_hold "$drift"
  # shellcheck disable=SC2154
  health="$(unit_health "$unit" "$result_port")"
  [ "$health" = 200 ] || does_not_hold "the trainer does not answer on port $result_port (health $health)"
}

apply() {
  python="$(LC_ALL=C sed -n 's/.*"argv":\["\(\([^"\\]\|\\.\)*\)".*/\1/p' "$TANDEM_REQUEST")"
  [ -x "$python" ] || die 29 "the trainer's Python is gone — got '$python' — fix: apply the trainer step again"
  private_dir "$TANDEM_STACK_DIR/units"
  private_dir "$folder"
  private_dir "$state"
  place_package
  read_document
  adapters="$(adapters_folder "${doc_adaptersMib:-}")"
  define
  # shellcheck disable=SC2154 # Read from the document.
  port="$doc_port"
  unit_status "$unit"
  drift="$(unit_drift "$unit")"
  if [ "$unit_state" = running ] && [ "$unit_digest" = "$(cat "$folder/digest")" ] && [ "${drift#restart }" = "$drift" ] &&
    [ -f "$folder/result.json" ] && [ "$(unit_health "$unit" "$port")" = 200 ]; then
    say "the trainer is running as asked for"
    rm -f "$folder"/*.next
    [ -z "$drift" ] || unit_reinstall "$unit" "$python"
    "$python" -ESsB "$TANDEM_SCRIPTS_DIR/serving.py" result "$folder"
    return
  fi
  start
}

# The unit outlives the version of Tandem that installed it, so it has a copy of its own; a new name for each version.
place_package() {
  source="$(trainer_source)/tandem_trainer"
  version="$(digest_of "$source"/*.py)"
  package="$folder/package-$version"
  if [ ! -d "$package" ]; then
    rm -rf "$package.new"
    mkdir "$package.new"
    cp -R "$source" "$package.new/tandem_trainer"
    rm -rf "$package.new/tandem_trainer/__pycache__"
    mv -T "$package.new" "$package"
  fi
}

# The definition with this host's folders in it.
define() {
  adapters_prepare "$adapters" "${doc_adaptersMib:-}"
  printf '%s' "$adapters" | write_file "$folder/adapters"
  # shellcheck disable=SC2034 # Read by unit-systemd.sh.
  unit_mounts="$adapters"
  LC_ALL=C sed -e "s|{state}|$state|g; s|{adapters}|$adapters|g; s|{package}|$package|g" "$TANDEM_REQUEST" | write_file "$folder/request.json"
  TANDEM_REQUEST="$folder/request.json" "$python" -ESsB "$TANDEM_SCRIPTS_DIR/serving.py" define "$folder"
}

start() {
  rm -f "$folder/result.json"
  unit_stop "$unit" || die 33 "the old trainer could not be stopped: $(unit_processes "$unit")"
  holder="$(port_holder "$port")"
  [ -z "$holder" ] || die 31 "port $port is taken by process $holder — fix: stop it, or choose another training.port"
  for name in unit secret base; do mv -f "$folder/$name.json.next" "$folder/$name.json"; done
  printf '%s' "$python" | write_file "$folder/python"
  for old in "$folder"/package-*; do if [ "$old" != "$package" ]; then rm -rf "$old"; fi; done
  rm -f "$folder/log" "$folder/log.1"
  say "starting the trainer"
  unit_start "$unit" "$python"
  wait_until_ready
}

wait_until_ready() {
  # shellcheck disable=SC2154 # Read from the document.
  deadline=$(($(date +%s) + doc_startupSeconds))
  until [ "$(unit_health "$unit" "$port")" = 200 ]; do
    unit_status "$unit"
    case "$unit_state" in
      failed | waiting | stopped) give_up 36 "the trainer ended before it was ready" ;;
    esac
    [ "$(date +%s)" -lt "$deadline" ] || give_up 124 "the trainer is not ready after $doc_startupSeconds s"
    sleep 0.2
  done
  "$python" -ESsB "$TANDEM_SCRIPTS_DIR/serving.py" result "$folder" | write_file "$folder/result.json"
  say "the trainer answers on port $port"
  cat "$folder/result.json"
}

give_up() {
  say "root cause: $(grep -v '^ ' "$folder/log" 2>/dev/null | grep . | tail -n 1)"
  ln -f "$folder/log" "$folder/failed.log" 2>/dev/null || :
  say "log: $folder/failed.log"
  unit_stop "$unit" || :
  die "$1" "$2"
}

# What it trained goes with it: the stack's adapters are the stack's.
undo() {
  adapters="$(cat "$folder/adapters" 2>/dev/null || adapters_folder '')"
  if [ -d "$folder" ]; then
    say "stopping the trainer"
    unit_stop "$unit" || die 33 "the trainer could not be stopped: $(unit_processes "$unit")"
    if [ -f "$folder/unit.json" ]; then "$(cat "$folder/python")" -ESsB "$TANDEM_SCRIPTS_DIR/training_unload.py" "$folder" "$adapters" || :; fi
    unit_remove "$unit"
  fi
  adapters_remove "$adapters"
  rm -rf "$state"
  say "the trainer is gone, with its jobs and adapters"
}

answer_step "$@"
exit
