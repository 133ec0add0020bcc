#!/bin/sh
# Takes a step back: its own `undo`, then whatever the journal still lists of it. Started by work-run.sh and by nothing else.
# Reads: TANDEM_OWNER   <stack>/<step>; and what the step reads
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=journal-undo.sh
. "$TANDEM_SCRIPTS_DIR/journal-undo.sh"

main() {
  step="${TANDEM_OWNER#*/}"
  sh "$TANDEM_SCRIPTS_DIR/$step.sh" undo
  journal_undo "$step"
}

main "$@"
exit
