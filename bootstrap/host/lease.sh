#!/bin/sh
# Takes this host for the stack: the first step on a host and the last to go. Who comes first has it; a lock on the host's folder
# decides between two that come at once.
# Reads: TANDEM_STACK, TANDEM_STACK_DIR, TANDEM_HOST_DIR, TANDEM_CACHE_DIR   see common.sh
#        TANDEM_REQUEST     { exclusive, gpus?: [indices], cache: keep | remove }
#                           exclusive: no other stack may be on this host and nobody else's program on these GPUs
#                           cache: what becomes of runtimes and weights that this stack brought when it goes
#        TANDEM_CLIENT      who takes it, for people; user and name of the client
# Result: { leaseId, hostDir, cacheDir, createdAt }
# Exit status of a failed apply: 30 somebody else has the host
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=host-folder.sh
. "$TANDEM_SCRIPTS_DIR/host-folder.sh"
# shellcheck source=journal.sh
. "$TANDEM_SCRIPTS_DIR/journal.sh"
# shellcheck source=snapshot.sh
. "$TANDEM_SCRIPTS_DIR/snapshot.sh"
# shellcheck source=cache.sh
. "$TANDEM_SCRIPTS_DIR/cache.sh"
# shellcheck source=lease-others.sh
. "$TANDEM_SCRIPTS_DIR/lease-others.sh"

lease="$TANDEM_STACK_DIR/lease.json"

check() {
  [ -f "$lease" ] || does_not_hold "the host is not taken for this stack"
  eval "$(json_assignments lease_ <"$lease")"
  [ "${lease_stack:-}" = "$TANDEM_STACK" ] || does_not_hold "the lease in $lease is not this stack's"
  [ -w "$TANDEM_STACK_DIR" ] || does_not_hold "$TANDEM_STACK_DIR can't be written to"
}

apply() {
  read_document
  exclusive="${doc_exclusive:-false}" cache="${doc_cache:-keep}"
  lock_host
  refuse_other_stacks
  if [ ! -f "$lease" ]; then
    refuse_strangers_on_gpus
    # A lease that was killed before it was written has changed nothing yet: a fresh look is as good as its.
    snapshot_take
    [ -d "$TANDEM_CACHE_DIR" ] || mkdir -p "$TANDEM_CACHE_DIR"
    cache_note_leavings
    lease_leaseId="$(cat /proc/sys/kernel/random/uuid)" lease_createdAt="$(date -u +%Y-%m-%dT%H:%M:%SZ)"
    lease_owner="${TANDEM_CLIENT:-$(id -un)@$(uname -n)}"
    write_lease
    say "took this host for the stack $TANDEM_STACK"
  else
    eval "$(json_assignments lease_ <"$lease")"
    write_lease
  fi
  unlock_host
  printf '{"leaseId":%s,"hostDir":%s,"cacheDir":%s,"createdAt":%s}\n' "$(json_string "$lease_leaseId")" \
    "$(json_string "$TANDEM_HOST_DIR")" "$(json_string "$TANDEM_CACHE_DIR")" "$(json_string "$lease_createdAt")"
}

write_lease() {
  printf '{"leaseId":%s,"stack":%s,"owner":%s,"createdAt":%s,"exclusive":%s,"gpus":%s,"cache":%s,"hostDir":%s,"cacheDir":%s}\n' \
    "$(json_string "$lease_leaseId")" "$(json_string "$TANDEM_STACK")" "$(json_string "$lease_owner")" \
    "$(json_string "$lease_createdAt")" "$exclusive" "$(json_string "$(document_numbers gpus)")" "$(json_string "$cache")" \
    "$(json_string "$TANDEM_HOST_DIR")" "$(json_string "$TANDEM_CACHE_DIR")" | write_file "$lease"
  sync "$lease"
}

undo() {
  rm -f "$lease"
}

answer_step "$@"
exit
