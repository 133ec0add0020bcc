#!/bin/sh
# vLLM as a unit of its own on this host, listening on loopback.
# Reads: TANDEM_REQUEST    { argv: [...], env: {...}, port, startupSeconds, stopSeconds, python?, container?, ... }; argv
#                          starts with the runtime's Python, which is in the image where there is a container: { engine, kind,
#                          rootless, image, options, device, mounts: [folders] }, and python is the host's
#        TANDEM_STACK_DIR  the unit lives in its folder units/serving, see unit.sh
#        standard input    { apiKey }; reaches vLLM as VLLM_API_KEY
# Result: { unitId, port, pid, readySeconds, logPath }
# Exit status of a failed apply: 29 no runtime, 31 the port is taken, 33 the old one can't be stopped, 34 the GPUs are in use by others
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=unit.sh
. "$TANDEM_SCRIPTS_DIR/unit.sh"
# shellcheck source=gpu.sh
. "$TANDEM_SCRIPTS_DIR/gpu.sh"

unit=serving
folder="$(unit_dir "$unit")"

check() {
  [ -f "$folder/result.json" ] || does_not_hold "vLLM was not started here"
  unit_status "$unit"
  # shellcheck disable=SC2154 # unit_status sets them.
  eval "$(json_assignments result_ <"$folder/result.json")"
  case "$unit_state" in
    running) ;;
    waiting) needs_restart "vLLM keeps failing and is about to be started again (restart $unit_restarts)" ;;
    failed) needs_restart "vLLM failed too often and was given up" ;;
    *) needs_restart "vLLM is not running" ;;
  esac
  # shellcheck disable=SC2154 # Read from the result.
  port="$result_port"
  # shellcheck disable=SC2154
  [ "$unit_digest" = "$result_digest" ] || needs_restart "vLLM runs with other settings than were applied"
  drift="$(unit_drift "$unit")"
  case "$drift" in
    '') ;;
    'restart '*) needs_restart "vLLM: ${drift#restart }" ;;
    *) does_not_hold "vLLM: $drift; repair stops nothing" ;;
  esac
  health="$(unit_health "$unit" "$port")"
  [ "$health" = 200 ] || needs_restart "vLLM does not answer on port $port (health $health)"
}

# What repair will stop, and for how long: as long as the last start took.
needs_restart() {
  does_not_hold "$1; repair starts vLLM, which answers nothing for about ${result_readySeconds:-60} s"
}

apply() {
  read_document
  python="${doc_python:-$(first_argument)}"
  [ -x "$python" ] || die 29 "the runtime's Python is gone — got '$python' — fix: apply the runtime step again"
  private_dir "$TANDEM_STACK_DIR/units"
  private_dir "$folder"
  # Secrets go through standard input, and from here on into files that only this user can read.
  "$python" -ESsB "$TANDEM_SCRIPTS_DIR/serving.py" define "$folder"
  # shellcheck disable=SC2154 # Read from the document.
  port="$doc_port"
  unit_status "$unit"
  drift="$(unit_drift "$unit")"
  if [ "$unit_state" = running ] && [ "$unit_digest" = "$(cat "$folder/digest")" ] && [ "${drift#restart }" = "$drift" ]; then
    if [ ! -f "$folder/result.json" ]; then
      say "vLLM is starting already"
      wait_until_ready
      return
    fi
    if [ "$(unit_health "$unit" "$port")" = 200 ]; then
      say "vLLM is running as asked for"
      rm -f "$folder"/*.next
      reinstall_definition
      "$python" -ESsB "$TANDEM_SCRIPTS_DIR/serving.py" result "$folder"
      return
    fi
    say "vLLM does not answer, starting it again"
  fi
  start
}

# What is running runs as asked for; only how it starts at the next boot was changed.
reinstall_definition() {
  [ -n "$drift" ] || return 0
  say "vLLM: $drift; installing it again"
  unit_reinstall "$unit" "$python"
}

start() {
  rm -f "$folder/result.json"
  stop_trainer
  stop_former_gateway
  unit_stop "$unit" || die 33 "the old vLLM could not be stopped: $(unit_processes "$unit")"
  gpu_wait_for_release "$folder/gpu-before"
  require_port
  gpu_remember_use >"$folder/gpu-before"
  gpu_require_free
  for name in unit secret base; do mv -f "$folder/$name.json.next" "$folder/$name.json"; done
  printf '%s' "$python" | write_file "$folder/python"
  rm -f "$folder/log" "$folder/log.1"
  say "starting vLLM"
  unit_start "$unit" "$python"
  wait_until_ready
}

# vLLM measures the free memory at its start and must be alone then.
stop_trainer() {
  [ -d "$(unit_dir training)" ] || return 0
  say "stopping the trainer first; its jobs go on from their last checkpoints"
  unit_stop training || die 33 "the trainer could not be stopped: $(unit_processes training)"
}

# One that was switched off holds our port until its own step takes it away, which comes after this one.
stop_former_gateway() {
  [ "$(cat "$(unit_dir gateway)/port" 2>/dev/null)" = "$port" ] || return 0
  unit_stop gateway || die 33 "the gateway could not be stopped: $(unit_processes gateway)"
}

# A start that failed is not tried again and again: the unit is stopped, its log is kept.
wait_until_ready() {
  rm -f "$folder"/*.next
  code=0
  "$python" -ESsB "$TANDEM_SCRIPTS_DIR/serving.py" wait "$folder" || code=$?
  if [ "$code" -ne 0 ]; then
    unit_stop "$unit" || :
    exit "$code"
  fi
}

# The first element of argv. An array, which json.awk does not read; a path holds no escapes that matter here.
first_argument() {
  LC_ALL=C sed -n 's/.*"argv":\["\(\([^"\\]\|\\.\)*\)".*/\1/p' "$TANDEM_REQUEST"
}

require_port() {
  holder="$(port_holder "$port")"
  [ -n "$holder" ] || return 0
  die 31 "port $port is taken by process $holder — fix: stop it, or choose another port"
}

undo() {
  [ -d "$folder" ] || return 0
  port="$(cat "$folder/port" 2>/dev/null || :)"
  say "stopping vLLM"
  unit_stop "$unit" || die 33 "vLLM could not be stopped: $(unit_processes "$unit")"
  gpu_wait_for_release "$folder/gpu-before"
  unit_remove "$unit"
  holder="$(port_holder "${port:-0}")"
  case "$holder" in
    '') say "vLLM is gone, port ${port:-?} is free" ;;
    *) say "vLLM is gone; port $port is held by another program now: $holder" ;;
  esac
}

answer_step "$@"
exit
