#!/bin/sh
# ShellCheck over every shell script of the project, named *.sh or known by its first line.
set -eu
cd "$(dirname "$0")/.."

shellcheck="$(sh scripts/tool.sh shellcheck)"
{
  find . \( -name node_modules -o -name dist -o -name '.?*' \) -prune -o -name '*.sh' -type f -print
  for file in bin/* .ci/run examples/*/*; do
    if [ -f "$file" ] && head -n 1 "$file" | grep -qE '^#!.*[/ ](ba|da)?sh( |$)'; then echo "./$file"; fi
  done
} | sort -u | tr '\n' '\0' | xargs -0 "$shellcheck" --external-sources --source-path=SCRIPTDIR
