#!/bin/sh
# A Python with vLLM on this host: made with uv, unpacked from an archive, one that is there already, or in a container image.
# Reads: TANDEM_REQUEST    { kind: venv | archive | existing | container, device: cpu | cuda, vllmVersion, path?, image? }
#        TANDEM_CACHE_DIR  made runtimes stay in its folder runtimes/, shared by stacks and not removed by undo
#        TANDEM_STEP_DIR   remembers the result for check
#        PIP_*, UV_*       as the clients of the package index read them
# Result: { python, vllmVersion, device, flags: [...], path, bytes, container? }; with a container python is the host's own, which
#         watches over it
# Exit status of a failed apply: 24 no disk, 25 not installed, 26 no such CPU, 27 no GPU, 28 no compiler, 29 not a runtime, 30 no image
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=python.sh
. "$TANDEM_SCRIPTS_DIR/python.sh"
# shellcheck source=cache.sh
. "$TANDEM_SCRIPTS_DIR/cache.sh"
# shellcheck source=runtime-install.sh
. "$TANDEM_SCRIPTS_DIR/runtime-install.sh"
# shellcheck source=container-runtime.sh
. "$TANDEM_SCRIPTS_DIR/container-runtime.sh"

# Part of the name of a made runtime: raise it when the way of making changes, so that old ones are not taken for new.
RECIPE=1

check() {
  [ -f "$TANDEM_STEP_DIR/result.json" ] || does_not_hold "no runtime was installed"
  eval "$(json_assignments result_ <"$TANDEM_STEP_DIR/result.json")"
  # shellcheck disable=SC2154 # Read from the result.
  [ -x "$result_python" ] || does_not_hold "the runtime's Python is gone: $result_python"
  # shellcheck disable=SC2154
  [ -f "$result_path/tandem-runtime.json" ] || does_not_hold "the runtime is gone or incomplete: $result_path"
  if [ -f "$result_path/engine" ]; then
    container_is_there "$result_path" || does_not_hold "the image is gone, or $(cat "$result_path/engine") does not answer: $(cat "$result_path/image")"
    return
  fi
  if [ -f "$TANDEM_STEP_DIR/looked-at" ] && times_of_looked_at | cmp -s - "$TANDEM_STEP_DIR/times"; then return; fi
  found="$("$result_python" -c "$FIND_VLLM" 2>/dev/null)" || does_not_hold "vLLM can't be found by $result_python"
  # shellcheck disable=SC2154
  [ "${found%+*}" = "$result_vllmVersion" ] || does_not_hold "the runtime has vLLM $found, not $result_vllmVersion"
}

apply() {
  read_document
  # shellcheck disable=SC2154 # Read from the document.
  case "$doc_device" in
    cpu) require_cpu ;;
    cuda) require_driver ;;
    *) die 2 "device — got $doc_device — allowed: cpu, cuda" ;;
  esac
  mkdir -p "$TANDEM_CACHE_DIR/runtimes"
  # shellcheck disable=SC2154
  case "$doc_kind" in
    venv) prepare_venv ;;
    archive) prepare_archive ;;
    existing) prepare_existing ;;
    container) prepare_container ;;
    *) die 2 "kind — got $doc_kind — allowed: venv, archive, existing, container" ;;
  esac
  # Two stacks that want the same runtime at once: the second waits and finds it made.
  exec 7>>"$runtime.lock"
  if ! flock -n 7; then
    say "waiting for another stack that makes the same runtime"
    flock 7
  fi
  if [ -f "$runtime/tandem-runtime.json" ] && is_usable; then
    cache_use "$runtime" found
    say "runtime is there: $runtime"
  else
    cache_use "$runtime" made
    "make_$doc_kind"
    if [ "$doc_kind" = container ]; then finish_container; else finish_runtime; fi
  fi
  exec 7>&-
  remember_times
  write_file "$TANDEM_STEP_DIR/result.json" <"$runtime/tandem-runtime.json"
  cat "$runtime/tandem-runtime.json"
}

# Where Python looks for vLLM and what it finds there. As long as none of it was touched its answer is the same, and check need
# not start it, which takes a tenth of a second.
LOOKED_AT='
import importlib.util, os, sys
found = [sys.executable, os.path.realpath(sys.executable), sys.prefix + "/pyvenv.cfg", importlib.util.find_spec("vllm").origin]
for entry in sys.path:
    found.append(entry)
    if entry and os.path.isdir(entry):
        found += [entry + "/" + name for name in sorted(os.listdir(entry)) if name.endswith((".pth", ".egg-link"))]
        vllm = [name for name in os.listdir(entry) if name.lower().startswith("vllm") and name.endswith("-info")]
        found += [path for name in vllm for path in (entry + "/" + name, entry + "/" + name + "/METADATA")]
found = [path for path in found if path and os.path.exists(path)]
def times(path):
    stat = os.stat(path)
    moments = ["%d.%09d" % divmod(ns, 10**9) for ns in (stat.st_mtime_ns, stat.st_ctime_ns)]
    return "%s %d %d %s %s\n" % (path, stat.st_ino, stat.st_size, *moments)
with open(sys.argv[1] + "/looked-at", "w") as names, open(sys.argv[1] + "/times", "w") as lines:
    names.write("".join(path + "\0" for path in found))
    lines.write("".join(map(times, found)))
'

# The times are taken before the version is asked for: a change between the two would go unseen else.
remember_times() {
  rm -f "$TANDEM_STEP_DIR/looked-at" "$TANDEM_STEP_DIR/times"
  if [ "$doc_kind" = container ]; then return; fi
  eval "$(json_assignments stamp_ <"$runtime/tandem-runtime.json")"
  # shellcheck disable=SC2154 # Read from the stamp.
  found="$("$stamp_python" -c "$LOOKED_AT$FIND_VLLM" "$TANDEM_STEP_DIR" 2>/dev/null || :)"
  # shellcheck disable=SC2154 # Read from the stamp.
  if [ "${found%+*}" != "$stamp_vllmVersion" ]; then rm -f "$TANDEM_STEP_DIR/looked-at"; fi
}

times_of_looked_at() { xargs -0 -r stat -L -c '%n %i %s %.9Y %.9Z' <"$TANDEM_STEP_DIR/looked-at" 2>&1; }

is_usable() {
  if [ "$doc_kind" = container ]; then container_is_there "$runtime"; else python_runs; fi
}

python_runs() {
  eval "$(json_assignments stamp_ <"$runtime/tandem-runtime.json")"
  # shellcheck disable=SC2154 # Read from the stamp.
  [ -x "$stamp_python" ] && "$stamp_python" -c "$FIND_VLLM" >/dev/null 2>&1
}

# Runtimes are shared and cost gigabytes to make again: they stay, in a folder that the client's `destroy` names.
undo() {
  rm -f "$TANDEM_STEP_DIR/result.json"
  say "the runtime stays in $TANDEM_CACHE_DIR/runtimes for the next time"
}

answer_step "$@"
exit
