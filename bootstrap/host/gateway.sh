#!/bin/sh
# The gateway in front of vLLM and the trainer: nginx and a monitor beside it, as a unit of its own that runs as a user without rights.
# Changed keys, limits and certificates are taken over by what runs; only another program is a restart.
# Reads: TANDEM_REQUEST    { configuration, address, port, tls: off | self-signed | files | acme, certificate?, certificateKey?, domain?,
#                          email?, acmeDirectory?, name, nginx: package | unpack, monitor: { serving, training?, plan, ... } }
#        TANDEM_STACK_DIR  the unit lives in its folder units/gateway; what it runs on lies in memory, see gateway_files.py
#        standard input    { upstreamKey, "key <name>": key, ... }
# Result: { unitId, port, nginxVersion, fingerprint? }   the fingerprint is the SHA-256 of the certificate
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
  # shellcheck disable=SC2154 # unit_status sets them.
  case "$unit_state" in
    running) ;;
    waiting) does_not_hold "the gateway keeps failing and is about to be started again (restart $unit_restarts)" ;;
    failed) does_not_hold "the gateway failed too often and was given up" ;;
    *) does_not_hold "the gateway is not running" ;;
  esac
  drift="$(unit_drift "$unit")"
  [ -z "$drift" ] || does_not_hold "the gateway's unit: ${drift#restart }"
  tls_is_due && does_not_hold "the gateway's certificate ends soon or is another one than was applied; repair interrupts nothing"
  python="$(cat "$folder/python")"
  said="$("$python" -ESsB "$folder/gateway_run.py" probe "$folder" 2>&1)" || does_not_hold "$said"
}

apply() {
  read_document
  python="$(cat "$(unit_dir serving)/python" 2>/dev/null || command -v "${TANDEM_PYTHON:-python3}" || :)"
  [ -x "$python" ] || die 29 "there is no Python to run the gateway's parts — got '$python' — fix: apply the serving step again"
  private_dir "$TANDEM_STACK_DIR/units"
  private_dir "$folder"
  nginx="$(find_nginx "${doc_nginx:-unpack}")" || exit $?
  user="$(gateway_user)"
  tls_certificate
  change="$("$python" -ESsB "$TANDEM_SCRIPTS_DIR/gateway_define.py" "$folder" "$run" "$nginx" "$user" "$python")"
  [ "$change" = restart ] || [ -z "$tls_changed" ] || change=reload
  unit_status "$unit"
  drift="$(unit_drift "$unit")"
  # shellcheck disable=SC2154
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

place_program() {
  for name in unit gateway base; do mv -f "$folder/$name.json.next" "$folder/$name.json"; done
  cp "$TANDEM_SCRIPTS_DIR"/gateway_*.py "$TANDEM_SCRIPTS_DIR/status.html" "$folder/"
  printf '%s' "$python" | write_file "$folder/python"
}

start() {
  rm -f "$folder/result.json"
  stop || die 33 "the old gateway could not be stopped: $(unit_processes "$unit")"
  # shellcheck disable=SC2154 # Read from the document.
  holder="$(port_holder "$doc_port")"
  [ -z "$holder" ] || die 31 "port $doc_port is taken by process $holder — fix: stop it, or choose another port"
  place_program
  rm -f "$folder/log" "$folder/log.1"
  say "starting the gateway"
  unit_start "$unit" "$python"
}

reload() {
  place_program
  say "the gateway takes over changed settings; no request is interrupted"
  "$python" -ESsB "$folder/gateway_run.py" reload "$folder" || give_up "the gateway did not take over its settings"
  [ -z "$drift" ] || unit_reinstall "$unit" "$python"
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
    stop || die 33 "the gateway could not be stopped: $(unit_processes "$unit")"
    unit_remove "$unit"
  fi
  rm -rf "$run"
  say "the gateway is gone"
}

answer_step "$@"
exit
