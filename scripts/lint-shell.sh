#!/bin/sh
# ShellCheck over every shell script of the project, named *.sh or known by its first line. The same scripts are not looked at twice.
set -eu
cd "$(dirname "$0")/.."

shellcheck="$(sh scripts/tool.sh shellcheck)"
scripts="$(
  {
    find . \( -name node_modules -o -name dist -o -name '.?*' \) -prune -o -name '*.sh' -type f -print
    for file in bin/* .ci/run examples/*/*; do
      if [ -f "$file" ] && head -n 1 "$file" | grep -qE '^#!.*[/ ](ba|da)?sh( |$)'; then echo "./$file"; fi
    done
  } | sort -u
)"
clean=.cache/shellcheck
digest="$({
  printf '%s\n' "$shellcheck" "$scripts"
  printf '%s\n' "$scripts" | tr '\n' '\0' | xargs -0 cat "$0"
} | sha256sum)"
if [ "$(cat "$clean" 2>/dev/null || :)" = "$digest" ]; then exit 0; fi
printf '%s\n' "$scripts" | tr '\n' '\0' | xargs -0 -n 16 -P 2 "$shellcheck" --external-sources --source-path=SCRIPTDIR
mkdir -p .cache
printf '%s\n' "$digest" >"$clean"
