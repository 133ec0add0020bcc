# shellcheck shell=sh
# Sourced: the Python interpreters of a host.
# Reads: HOME, PATH
# shellcheck source=journal.sh
. "$TANDEM_SCRIPTS_DIR/journal.sh"
# shellcheck source=packages.sh
. "$TANDEM_SCRIPTS_DIR/packages.sh"

# Prints "<path> <version>" for each interpreter from 3.10 to 3.13, best first: vLLM and Megatron-Bridge both like 3.12.
# Shims of version managers are left out: they need an environment that a service does not have. What they stand for is not.
find_pythons() {
  folders='' seen=' ' separators="$IFS" IFS=:
  for folder in $PATH; do
    case "$folder" in */shims | */shims/) ;; *) folders="$folders $folder" ;; esac
  done
  IFS="$separators"
  for minor in 12 13 11 10; do
    for folder in $folders /usr/local/bin /usr/bin "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$minor".*/bin; do
      # /bin is /usr/bin under another name where it is a link.
      if [ -L "$folder" ] || [ ! -x "$folder/python3.$minor" ]; then continue; fi
      case "$seen" in *" $folder/python3.$minor "*) continue ;; esac
      seen="$seen$folder/python3.$minor "
      version="$("$folder/python3.$minor" -V 2>/dev/null)" || continue
      case "$version" in
        "Python 3.$minor."*) printf '%s %s\n' "$folder/python3.$minor" "${version#Python }" ;;
      esac
    done
  done
}

# The interpreter that is best for vLLM, or a message on what to install.
best_python() {
  found="$(find_pythons | head -n 1 | cut -d' ' -f1)"
  if [ -z "$found" ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing Python, which this host lacks"
    apt_install python3 python3-venv
    found="$(find_pythons | head -n 1 | cut -d' ' -f1)"
  fi
  [ -n "$found" ] || die 25 "no Python on this host — allowed: 3.10 to 3.13 — fix: sudo apt-get install python3 python3-venv"
  printf '%s' "$found"
}

UV_VERSION=0.13.9
# Of the wheels for x86_64 (glibc, musl) and aarch64.
UV_HASHES='--hash=sha256:d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19
--hash=sha256:2c45530751517d6c3bbc69a19473f6effe47cce047bede01ffd8af7ea7b36b25
--hash=sha256:5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe'

# Prints the path of uv: the one on PATH, else the pinned one, installed into the cache with pip: find_uv PYTHON
find_uv() {
  if command -v uv 2>/dev/null; then return; fi
  home="$TANDEM_CACHE_DIR/tools/uv-$UV_VERSION"
  if [ ! -x "$home/bin/uv" ]; then
    mkdir -p "$TANDEM_CACHE_DIR/tools"
    require_pip "$1"
    say "installing uv $UV_VERSION"
    building="$(mktemp -d "$TANDEM_CACHE_DIR/tools/building.XXXXXX")"
    "$1" -m venv "$building/venv" >&2
    printf 'uv==%s %s\n' "$UV_VERSION" "$(printf '%s' "$UV_HASHES" | tr '\n' ' ')" >"$building/requirements.txt"
    "$building/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
      --target "$building/tool" -r "$building/requirements.txt" >&2 ||
      die 25 "uv $UV_VERSION can't be installed — fix: make a package index reachable (PIP_INDEX_URL), or put uv on PATH"
    # Moved into place whole: of two that build at once, one wins and the other's is dropped.
    mv -T "$building/tool" "$home" 2>/dev/null || [ -x "$home/bin/uv" ]
    rm -rf "$building"
  fi
  printf '%s\n' "$home/bin/uv"
}

# Debian ships Python without what makes environments.
require_pip() {
  if "$1" -c 'import ensurepip, venv' 2>/dev/null; then return 0; fi
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    die 25 "Python at $1 can't make environments (no ensurepip) — fix: sudo apt-get install python3-venv, or put uv on PATH"
  fi
  say "installing python3-venv"
  apt_install "$(basename "$1")-venv"
}
