#!/bin/sh
# Ruff over the Python that runs on hosts, and a look that no committed file is newer in syntax than the hosts are.
set -eu
cd "$(dirname "$0")/.."

ruff="$(sh scripts/tool.sh ruff)"
"$ruff" check --quiet --no-cache bench bootstrap examples test
"$ruff" format --quiet --check --no-cache bench bootstrap examples test
