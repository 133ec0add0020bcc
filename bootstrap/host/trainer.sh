#!/bin/sh
# A Python with the trainer's dependencies on this host, apart from vLLM's: the two pin different versions of the same libraries.
# Reads: TANDEM_REQUEST    { backend: huggingface | megatron-bridge, device: cpu | cuda, path? }
#                          path: a Python that has everything already; nothing is installed then
#        TANDEM_CACHE_DIR  made environments stay in its folder runtimes/, shared by stacks
#        TANDEM_STEP_DIR   remembers the result for check
# Result: { python, path }
# Exit status of a failed apply: 24 no disk, 25 can't be installed, 29 the given Python does not do
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=python.sh
. "$TANDEM_SCRIPTS_DIR/python.sh"
# shellcheck source=journal.sh
. "$TANDEM_SCRIPTS_DIR/journal.sh"
# shellcheck source=cache.sh
. "$TANDEM_SCRIPTS_DIR/cache.sh"
# shellcheck source=trainer-files.sh
. "$TANDEM_SCRIPTS_DIR/trainer-files.sh"

# Measured: 6.5 GB installed for the CPU (November 2026); hard links to the package cache where both are on one disk.
NEEDED_GIB=8
# Where PyTorch publishes its builds for the CPU, a tenth of the size of those for CUDA.
CPU_TORCH=https://download.pytorch.org/whl/cpu

IMPORT_SERVICE='import fastapi, uvicorn, pydantic, safetensors, tokenizers, jinja2, httpx, torch'
IMPORT_HUGGINGFACE='import transformers, peft'
# Megatron-Bridge itself can only be imported once stand-ins for a missing Transformer Engine are there (tandem_trainer/megatron_layers.py).
IMPORT_MEGATRON='import importlib.util, megatron.core, transformers, peft
if not importlib.util.find_spec("megatron.bridge"): raise ImportError("megatron.bridge")'

check() {
  [ -f "$TANDEM_STEP_DIR/result.json" ] || does_not_hold "no environment for the trainer was made"
  eval "$(json_assignments result_ <"$TANDEM_STEP_DIR/result.json")"
  # shellcheck disable=SC2154 # Read from the result.
  [ -x "$result_python" ] || does_not_hold "the trainer's Python is gone: $result_python"
  # shellcheck disable=SC2154
  [ -z "$result_path" ] || [ -f "$result_path/tandem-trainer.json" ] || does_not_hold "the trainer's environment is incomplete: $result_path"
}

apply() {
  read_document
  # shellcheck disable=SC2154 # Read from the document.
  case "$doc_backend" in
    huggingface) imports="$IMPORT_SERVICE; $IMPORT_HUGGINGFACE" ;;
    megatron-bridge)
      imports="$IMPORT_SERVICE
$IMPORT_MEGATRON"
      ;;
    *) die 2 "backend — got $doc_backend — allowed: huggingface, megatron-bridge" ;;
  esac
  if [ -n "${doc_path:-}" ]; then use_given; else make_environment; fi
  cat "$TANDEM_STEP_DIR/result.json"
}

use_given() {
  python="$doc_path"
  if [ -d "$python" ]; then python="$python/bin/python"; fi
  [ -x "$python" ] || die 29 "training.runtimePath is not a Python — got '$doc_path' — fix: give the path of an interpreter, or of its environment"
  said="$("$python" -c "$imports" 2>&1)" || die 29 "the Python at $python lacks what the trainer needs: $(printf '%s' "$said" | tail -n 1) — fix: install bootstrap/trainer/requirements-$doc_backend.txt there"
  printf '{"python":%s,"path":""}\n' "$(json_string "$python")" | write_file "$TANDEM_STEP_DIR/result.json"
}

make_environment() {
  base="$(base_python)"
  requirements="$(trainer_source)/requirements-$doc_backend.txt"
  [ -f "$requirements" ] || die 2 "there is no list of requirements for $doc_backend"
  # shellcheck disable=SC2154 # Read from the document.
  environment="$TANDEM_CACHE_DIR/runtimes/trainer-$doc_backend-$doc_device-$(basename "$base")-$(digest_of "$(trainer_source)"/*.txt)"
  mkdir -p "$TANDEM_CACHE_DIR/runtimes"
  exec 7>>"$environment.lock"
  flock -n 7 || { say "waiting for another stack that makes the same environment" && flock 7; }
  if [ -f "$environment/tandem-trainer.json" ] && [ -x "$environment/bin/python" ]; then
    cache_use "$environment" found
    say "the trainer's environment is there: $environment"
  else
    cache_use "$environment" made
    install
  fi
  exec 7>&-
  write_file "$TANDEM_STEP_DIR/result.json" <"$environment/tandem-trainer.json"
}

# Megatron-Bridge is made for Python 3.12 alone.
base_python() {
  if [ "$doc_backend" = huggingface ]; then
    best_python
    return
  fi
  found="$(find_pythons | grep '/python3\.12 ' | head -n 1 | cut -d' ' -f1)"
  [ -n "$found" ] || die 25 "Megatron-Bridge needs Python 3.12, which this host lacks — fix: install it, or set training.backend to huggingface"
  printf '%s' "$found"
}

install() {
  free_gib=$(($(df -Pk "$TANDEM_CACHE_DIR" | awk 'NR == 2 { print $4 }') / 1048576))
  [ "$free_gib" -ge "$NEEDED_GIB" ] || die 24 "too little disk for the trainer in $TANDEM_CACHE_DIR — got $free_gib GiB free — allowed: at least $NEEDED_GIB GiB — fix: free some space, or set XDG_CACHE_HOME"
  uv="$(find_uv "$base")"
  rm -rf "$environment"
  say "making the trainer's environment with $base"
  "$uv" venv --quiet --no-project --python "$base" "$environment" >&2
  python="$environment/bin/python"
  set -- --requirement "$requirements"
  overrides="$(trainer_source)/overrides-$doc_backend.txt"
  if [ -f "$overrides" ]; then set -- --override "$overrides" "$@"; fi
  if [ "$doc_device" = cpu ] && cpu_torch_answers; then set -- --torch-backend cpu "$@"; fi
  say "installing what the trainer needs ($doc_backend)"
  log="$environment/install.log"
  UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-120}" "$uv" pip install --quiet --python "$python" --compile-bytecode "$@" >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die 25 "the trainer's environment could not be installed, see the lines above — fix: make a package index reachable, or set training.runtimePath to a Python that has it"
  }
  "$python" -c "$imports" 2>"$log" || die 25 "the trainer's environment does not work: $(tail -n 1 "$log")"
  printf '{"python":%s,"path":%s}\n' "$(json_string "$python")" "$(json_string "$environment")" | write_file "$environment/tandem-trainer.json"
  say "the trainer's environment is ready: $environment"
}

cpu_torch_answers() {
  "$base" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5).read(1)' "$CPU_TORCH/torch/" 2>/dev/null
}

undo() {
  rm -f "$TANDEM_STEP_DIR/result.json"
}

answer_step "$@"
exit
