#!/bin/sh
# The gateway in front of vLLM and the trainer: nginx and a monitor beside it, as a unit of its own that runs as a user without rights.
# Changed keys, limits and certificates are taken over by what runs; only another program is a restart.
# Reads: TANDEM_REQUEST    { configuration, address, port, tls: off | self-signed | files | acme, certificate?, certificateKey?, domain?,
#                          email?, acmeDirectory?, acmeDirectoryCa?, name, nginx: package | unpack, monitor: { serving, training?, plan, ... } }
#        TANDEM_STACK_DIR  the unit lives in its folder units/gateway; what it runs on lies in memory, see gateway_files.py
#        standard input    { upstreamKey, "key <name>": key, ... }
# Result: { unitId, port, nginxVersion, fingerprint? }   the fingerprint is the SHA-256 of the certificate
# The verb `renew` is for the timer of gateway-acme.sh.
# Exit status of a failed apply: 25 no nginx, 29 no Python, 31 port taken, 33 can't be stopped, 37 the gateway does not answer as it
# must, 38 no certificate
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=unit.sh
. "$TANDEM_SCRIPTS_DIR/unit.sh"
# shellcheck source=packages.sh
. "$TANDEM_SCRIPTS_DIR/packages.sh"
# shellcheck source=cache.sh
. "$TANDEM_SCRIPTS_DIR/cache.sh"
# shellcheck source=nginx.sh
. "$TANDEM_SCRIPTS_DIR/nginx.sh"
# shellcheck source=gateway-tls.sh
. "$TANDEM_SCRIPTS_DIR/gateway-tls.sh"

unit=gateway
folder="$(unit_dir "$unit")"
# A file system of memory: keys and bodies leave nothing on a disk, and a user without rights can be let in.
run="/dev/shm/tandem-gateway-$(printf '%s' "$TANDEM_STACK_DIR" | sha256sum | cut -c 1-12)"

check() {
  [ -f "$folder/result.json" ] || does_not_hold "the gateway was not started here"
  unit_status "$unit"
  case "$unit_state" in
    running) ;;
    waiting) does_not_hold "the gateway keeps failing and is about to be started again (restart $unit_restarts)" ;;
    failed) does_not_hold "the gateway failed too often and was given up" ;;
    *) does_not_hold "the gateway is not running" ;;
  esac
  drift="$(unit_drift "$unit")"
  [ -z "$drift" ] || does_not_hold "the gateway's unit: ${drift#restart }"
  due="$(tls_drift)"
  [ -z "$due" ] || does_not_hold "$due"
  wrong="$(gateway_drift)"
  [ -z "$wrong" ] || does_not_hold "$wrong"
}

apply() {
  read_document
  python="$(cat "$(unit_dir serving)/python" 2>/dev/null || command -v "${TANDEM_PYTHON:-python3}" || :)"
  [ -x "$python" ] || die 29 "there is no Python to run the gateway's parts — got '$python' — fix: apply the serving step again"
  private_dir "$TANDEM_STACK_DIR/units"
  private_dir "$folder"
  read_line "$folder/port"
  # What runs on another port serves on.
  # shellcheck disable=SC2154 # Read from the document.
  [ "$file_line" = "$doc_port" ] || require_free_port
  nginx="$(find_nginx "${doc_nginx:-unpack}")" || exit $?
  user="$(gateway_user)"
  tls_certificate
  change="$("$python" -ESsB "$TANDEM_SCRIPTS_DIR/gateway_define.py" "$folder" "$run" "$nginx" "$user" "$python")"
  [ "$change" = restart ] || [ -z "$tls_changed" ] || change=reload
  unit_status "$unit"
  drift="$(unit_drift "$unit")"
  # What was changed by hand is laid out again.
  if [ -z "$change" ] && [ "$unit_state" = running ] && [ -n "$(gateway_drift)" ]; then change=reload; fi
  if [ "$unit_state" != running ] || [ "${drift#restart }" != "$drift" ] || [ ! -f "$folder/result.json" ]; then change=restart; fi
  case "$change" in
    restart) start ;;
    reload) reload ;;
    *)
      rm -f "$folder"/*.next
      say "the gateway is running as asked for"
      [ -z "$drift" ] || unit_reinstall "$unit" "$python"
      ;;
  esac
  prove
}

# The account of the gateways of this host; stacks in other folders than the usual one, which are tests, make none.
gateway_user() {
  if [ "$(id -u)" -ne 0 ]; then
    id -un
  elif [ "$TANDEM_HOST_DIR" != /var/lib/tandem ]; then
    echo nobody
  else
    journal_add user tandem-gateway
    getent passwd tandem-gateway >/dev/null ||
      useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tandem-gateway
    echo tandem-gateway
  fi
}

# What looks wrong from here, for people; nothing where all is as it was applied. Without curl by the unit's Python, which takes longer.
gateway_drift() {
  if ! command -v curl >/dev/null 2>&1 || [ ! -f "$folder/asked" ]; then
    "$(cat "$folder/python")" -ESsB "$folder/gateway_run.py" probe "$folder" 2>&1 || :
    return
  fi
  changed="$(sha256sum --check --quiet --strict "$folder/sums" 2>/dev/null | head -n 1)"
  if [ -n "$changed" ]; then
    echo "the gateway's file ${changed%%: *} was changed"
    return
  fi
  said="$(curl --disable --config "$folder/asked" 2>/dev/null | tr '\n' ' ')"
  # shellcheck disable=SC2086 # Five words: the version that nginx runs, and four statuses.
  set -- $said
  read_line "$folder/version"
  if [ "${1:-}" != "$file_line" ]; then
    echo "nginx does not answer with the settings that were applied"
    return
  fi
  # Others' guesses, or its own requests, may have used up a limit; without vLLM it is 503, and 000 when that takes its time.
  expect_status "${2:-000}" "/v1/models without a key" 401 429
  expect_status "${3:-000}" "/version without a key" 404
  expect_status "${4:-000}" "/invocations with a key" 404
  expect_status "${5:-000}" "/v1/models with a key" 200 429 503 000
}

# expect_status GOT WHAT WANTED...
expect_status() {
  got="$1" asked_for="$2"
  shift 2
  case " $* " in
    *" $got "*) ;;
    *) echo "the gateway answers $got to $asked_for — expected: $1" ;;
  esac
}

place_program() {
  for name in unit gateway base; do
    if [ -f "$folder/$name.json.next" ]; then mv -f "$folder/$name.json.next" "$folder/$name.json"; fi
  done
  cp "$TANDEM_SCRIPTS_DIR"/gateway_*.py "$TANDEM_SCRIPTS_DIR/status.html" "$folder/"
  printf '%s' "$python" | write_file "$folder/python"
}

require_free_port() {
  holder="$(port_holder "$doc_port")"
  [ -z "$holder" ] || die 31 "port $doc_port is taken by process $holder — fix: stop it, or choose another port"
}

start() {
  rm -f "$folder/result.json"
  stop || die 33 "the old gateway could not be stopped: $(unit_processes "$unit")"
  require_free_port
  place_program
  rm -f "$folder/log" "$folder/log.1"
  say "starting the gateway"
  unit_start "$unit" "$python"
}

reload() {
  place_program
  say "the gateway takes over changed settings; no request is interrupted"
  status=0
  "$python" -ESsB "$folder/gateway_run.py" reload "$folder" || status=$?
  case "$status" in
    0) [ -z "$drift" ] || unit_reinstall "$unit" "$python" ;;
    # It does not even answer: nothing is lost with it.
    3) start ;;
    *) give_up "the gateway did not take over its settings" ;;
  esac
}

# By the timer, with what was applied last.
renew() {
  export TANDEM_REQUEST="$TANDEM_STACK_DIR/steps/gateway/request.json"
  read_document
  [ "${doc_tls:-off}" = acme ] || return 0
  acme_renew || die 38 "$acme_why"
  if ! cmp -s "$folder/tls.crt" "$run/tls.crt"; then
    "$(cat "$folder/python")" -ESsB "$folder/gateway_run.py" reload "$folder" || die 37 "the gateway did not take over its new certificate"
    say "the gateway has a new certificate, until $(date -u -d "@$(cut -d ' ' -f 3 "$folder/tls.times")" +%Y-%m-%d)"
  fi
}

# Readiness is proof: keys are let in, everybody else is not.
prove() {
  said="$("$python" -ESsB "$folder/gateway_run.py" prove "$folder" 2>&1)" || give_up "$said"
  unit_status "$unit"
  version="$("$nginx" -v 2>&1 | sed -n 's|.*nginx/\([0-9.]*\).*|\1|p')"
  {
    printf '{"unitId":%s,"port":%s,"nginxVersion":%s' "$(json_string "$unit_unitId")" "$doc_port" "$(json_string "$version")"
    fingerprint="$(tls_fingerprint)"
    [ -z "$fingerprint" ] || printf ',"fingerprint":%s' "$(json_string "$fingerprint")"
    printf '}\n'
  } | write_file "$folder/result.json"
  say "the gateway answers on port $doc_port, to its keys alone"
  cat "$folder/result.json"
}

give_up() {
  say "root cause: $(grep -E 'emerg|Error|refus' "$folder/log" 2>/dev/null | tail -n 1 | grep . || printf '%s' "$1")"
  ln -f "$folder/log" "$folder/failed.log" 2>/dev/null || :
  say "log: $folder/failed.log"
  die 37 "$1"
}

# nginx writes its name over its environment, so the mark is gone from it; it works in its folder, and that tells.
stop() {
  unit_stop "$unit" || return 1
  for process in $(find /proc/[0-9]*/cwd -maxdepth 0 -lname "$run" 2>/dev/null | cut -d/ -f3); do kill -s KILL "$process" 2>/dev/null || :; done
}

undo() {
  if [ -d "$folder" ]; then
    say "stopping the gateway"
    acme_end
    stop || die 33 "the gateway could not be stopped: $(unit_processes "$unit")"
    unit_remove "$unit"
  fi
  rm -rf "$run"
  say "the gateway is gone"
}

case "${1:-}" in
  renew) renew ;;
  *) answer_step "$@" ;;
esac
exit
