#!/bin/sh
# Prints the path of uv, installing it when it is missing. Usage: find-uv.sh PYTHON
# Reads: TANDEM_CACHE_DIR, TANDEM_SCRIPTS_DIR   see common.sh
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=python.sh
. "$TANDEM_SCRIPTS_DIR/python.sh"
find_uv "$1"
