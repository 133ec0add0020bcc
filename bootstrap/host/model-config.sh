#!/bin/sh
# Prints config.json of a model directory, or of an archive of one, for the planner. Changes nothing.
# Usage: model-config.sh PATH
set -eu
path="${1:-}"

fail() {
  printf '%s\n' "$1" >&2
  exit 1
}

# shellcheck disable=SC2088 # The tilde as it was written; no shell has seen it.
case "$path" in
  '~/'*) path="$HOME/${path#??}" ;;
  /*) ;;
  *) fail "the path is not absolute" ;;
esac
[ -e "$path" ] || fail "the path does not exist"
if [ -d "$path" ]; then
  [ -f "$path/config.json" ] || fail "the directory is not a model: it has no config.json"
  cat "$path/config.json"
else
  entry="$(tar -tf "$path" 2>/dev/null | grep -E '^(\./)?([^/]+/)?config\.json$' | head -n 1)" || fail "the archive can't be read as a model"
  [ -n "$entry" ] || fail "the archive holds no config.json"
  tar -xOf "$path" "$entry"
fi
