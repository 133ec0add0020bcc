#!/bin/sh
# Installs npm's packages as package-lock.json has them, unless they are there already. Instant the second time;
# two at once wait for each other.
set -eu
cd "$(dirname "$0")/.."

stamp=node_modules/.tandem-installed
wanted="$(cksum <package-lock.json)"
is_installed() { [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; }

if is_installed; then exit 0; fi
mkdir -p .cache
if command -v flock >/dev/null 2>&1; then
  exec 9>.cache/install.lock
  flock 9
fi
if ! is_installed; then
  # Someone may have used npm directly: what it installed is as good.
  if ! node scripts/is-installed.mjs; then
    echo "Installing npm packages" >&2
    npm ci --no-audit --no-fund --loglevel=error
  fi
  echo "$wanted" >"$stamp"
fi
