#!/bin/sh
# Proves that the serving unit does what was planned, by using and measuring it; the work is in prove.py.
# Reads: TANDEM_REQUEST    { baseUrl, model, deadlineSeconds, unit, prompt?, kvCacheBytes?, footprintKey?, ... };
#                          with the last two, what vLLM takes beside its KV cache is kept in the cache of weights
#        TANDEM_STACK_DIR  the unit's folder is in it
#        TANDEM_STEP_DIR   remembers which run of the unit was proven
#        standard input    { apiKey }
# Result: Proof of plan/proof.ts, and the unitId that was proven
# Exit status of a failed apply: 41 no token within the deadline, 42 the service refused, 43 the unit does not run
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=unit.sh
. "$TANDEM_SCRIPTS_DIR/unit.sh"
# shellcheck source=journal.sh
. "$TANDEM_SCRIPTS_DIR/journal.sh"
# shellcheck source=cache.sh
. "$TANDEM_SCRIPTS_DIR/cache.sh"

# A proof is of one run of the unit: each start has an id of its own.
check() {
  [ -f "$TANDEM_STEP_DIR/proven" ] || does_not_hold "the service was not proven"
  read_document
  # shellcheck disable=SC2154 # Read from the document.
  unit_status "$doc_unit"
  # shellcheck disable=SC2154 # unit_status sets them.
  [ "$unit_state" = running ] || does_not_hold "the service that was proven is not running"
  # shellcheck disable=SC2154
  [ "$unit_unitId" = "$(cat "$TANDEM_STEP_DIR/proven")" ] || does_not_hold "the service was started again since it was proven"
  [ -f "$TANDEM_STEP_DIR/proven-training" ] || return 0
  unit_status training
  [ "$unit_unitId" = "$(cat "$TANDEM_STEP_DIR/proven-training")" ] || does_not_hold "the trainer was started again since it was proven"
}

apply() {
  read_document
  unit_status "$doc_unit"
  [ "$unit_state" = running ] || die 43 "the unit $doc_unit does not run (state $unit_state) — fix: apply the serving step again"
  python="$(cat "$(unit_dir "$doc_unit")/python")"
  rm -f "$TANDEM_STEP_DIR/proven" "$TANDEM_STEP_DIR/proven-training"
  choose_footprint_file
  proof="$("$python" -ESsB "$TANDEM_SCRIPTS_DIR/prove.py" "$(unit_dir "$doc_unit")")" || exit $?
  show_on_status_page
  printf '%s\n' "$proof"
  printf '%s' "$unit_unitId" | write_file "$TANDEM_STEP_DIR/proven"
  unit_status training
  if [ -n "$unit_unitId" ]; then printf '%s' "$unit_unitId" | write_file "$TANDEM_STEP_DIR/proven-training"; fi
}

# Later plans of this host read it: see facts.sh.
choose_footprint_file() {
  if [ -z "${doc_footprintKey:-}" ] || [ ! -d "$TANDEM_CACHE_DIR/models" ]; then return 0; fi
  TANDEM_FOOTPRINT="$TANDEM_CACHE_DIR/models/footprint-$(printf '%s' "$doc_footprintKey" | sha256sum | cut -c 1-16).json"
  if [ -e "$TANDEM_FOOTPRINT" ]; then cache_use "$TANDEM_FOOTPRINT" found; else cache_use "$TANDEM_FOOTPRINT" made; fi
  export TANDEM_FOOTPRINT
}

show_on_status_page() {
  gateway="$(unit_dir gateway)"
  [ -f "$gateway/gateway.json" ] || return 0
  printf '%s' "$proof" | "$(cat "$gateway/python")" -ESsB "$gateway/gateway_run.py" note "$gateway" || say "the status page does not show this proof"
}

undo() {
  rm -f "$TANDEM_STEP_DIR/proven" "$TANDEM_STEP_DIR/proven-training"
}

answer_step "$@"
exit
