#!/bin/sh
# Stops the trainer of a stack, which keeps a checkpoint of every job first. Started by the watcher of a spot machine.
# Reads: TANDEM_STACK, TANDEM_STACK_DIR, TANDEM_SCRIPTS_DIR   see common.sh
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=unit.sh
. "$TANDEM_SCRIPTS_DIR/unit.sh"

unit_stop training
