#!/bin/sh
# What this host is and which steps of the stack hold, in one call: the object of facts.sh on the first line, then the lines of
# `work.sh check`. Changes nothing.
# Reads: what facts.sh and work.sh read
TANDEM_SCRIPTS_DIR="${TANDEM_SCRIPTS_DIR:-$(cd "$(dirname "$0")" && pwd)}"
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"

main() {
  # Whose port it is matters before vLLM is there; looking for the holder means to look at every process.
  if [ -f "$TANDEM_STACK_DIR/units/serving/result.json" ]; then unset TANDEM_PORT; fi
  sh "$TANDEM_SCRIPTS_DIR/facts.sh" &
  checks="$(sh "$TANDEM_SCRIPTS_DIR/work.sh" check)" || die "$?" "the steps of this host can't be checked"
  wait "$!"
  printf '%s\n' "$checks"
}

main "$@"
exit
