#!/bin/sh
# Takes this host for the stack: the first step on a host and the last to go.
# Reads: TANDEM_STACK, TANDEM_STACK_DIR, TANDEM_HOST_DIR, TANDEM_CACHE_DIR   see common.sh
#        TANDEM_EXCLUSIVE   1 when no other stack may be on this host
#        TANDEM_CLIENT      who takes it, for people; user and name of the client
# Result: { leaseId, hostDir, cacheDir, createdAt }
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"

lease="$TANDEM_STACK_DIR/lease.json"

check() {
  [ -f "$lease" ] || does_not_hold "the host is not taken for this stack"
  eval "$(json_assignments lease_ <"$lease")"
  [ "${lease_stack:-}" = "$TANDEM_STACK" ] || does_not_hold "the lease in $lease is not this stack's"
  [ -w "$TANDEM_STACK_DIR" ] || does_not_hold "$TANDEM_STACK_DIR can't be written to"
}

apply() {
  refuse_others
  if [ ! -f "$lease" ]; then
    [ -d "$TANDEM_CACHE_DIR" ] || mkdir -p "$TANDEM_CACHE_DIR"
    owner="${TANDEM_CLIENT:-$(id -un)@$(uname -n)}"
    printf '{"leaseId":%s,"stack":%s,"owner":%s,"createdAt":%s,"hostDir":%s,"cacheDir":%s}\n' \
      "$(json_string "$(cat /proc/sys/kernel/random/uuid)")" "$(json_string "$TANDEM_STACK")" "$(json_string "$owner")" \
      "$(json_string "$(date -u +%Y-%m-%dT%H:%M:%SZ)")" "$(json_string "$TANDEM_HOST_DIR")" "$(json_string "$TANDEM_CACHE_DIR")" |
      write_file "$lease"
    say "took this host for the stack $TANDEM_STACK"
  fi
  eval "$(json_assignments lease_ <"$lease")"
  # shellcheck disable=SC2154 # Read from the lease.
  printf '{"leaseId":%s,"hostDir":%s,"cacheDir":%s,"createdAt":%s}\n' "$(json_string "$lease_leaseId")" \
    "$(json_string "$lease_hostDir")" "$(json_string "$lease_cacheDir")" "$(json_string "$lease_createdAt")"
}

refuse_others() {
  [ "${TANDEM_EXCLUSIVE:-0}" = 1 ] || return 0
  for other in "$TANDEM_HOST_DIR"/stacks/*/lease.json; do
    if [ ! -f "$other" ] || [ "$other" = "$lease" ]; then continue; fi
    eval "$(json_assignments other_ <"$other")"
    # shellcheck disable=SC2154 # Read from the other lease.
    die 30 "this host is taken by the stack $other_stack, since $other_createdAt, by $other_owner — fix: destroy that stack first"
  done
}

undo() {
  rm -f "$lease"
}

main() {
  case "${1:-}" in
    check) check ;;
    apply) apply ;;
    undo) undo ;;
    *) die 2 "lease.sh — got '${1:-}' — allowed: check, apply, undo" ;;
  esac
}

main "$@"
exit
