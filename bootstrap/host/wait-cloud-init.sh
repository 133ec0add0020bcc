#!/bin/sh
# Waits until cloud-init has set the machine up, and says what it is doing.
# Reads: TANDEM_TIMEOUT_SECONDS   limit of the wait
TANDEM_SCRIPTS_DIR="${TANDEM_SCRIPTS_DIR:-$(cd "$(dirname "$0")" && pwd)}"
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"

SAY_EVERY_SECONDS=10

runs() { [ -e /run/cloud-init/enabled ] && [ ! -e /run/cloud-init/result.json ]; }

# The stage that it is in, and the last line of what it printed.
doing() {
  stage="$(sed -n 's/.*"stage": *"\([^"]*\)".*/\1/p' /run/cloud-init/status.json 2>/dev/null | head -n 1)"
  last="$(tail -n 1 /var/log/cloud-init-output.log 2>/dev/null | tr -d '\r' | cut -c 1-120)"
  printf '%s' "${stage:-starting}${last:+: $last}"
}

main() {
  started="$(date +%s)"
  said=0
  while runs; do
    waited=$(($(date +%s) - started))
    if [ "$waited" -ge "$TANDEM_TIMEOUT_SECONDS" ]; then
      die 1 "cloud-init has not finished within $TANDEM_TIMEOUT_SECONDS s ($(doing)) — fix: look at 'cloud-init status --long' there"
    fi
    if [ "$waited" -ge "$said" ]; then
      say "waiting for cloud-init, $waited s of at most $TANDEM_TIMEOUT_SECONDS s ($(doing))"
      said=$((waited + SAY_EVERY_SECONDS))
    fi
    sleep 0.5
  done
  errors="$(sed -n 's/.*"errors": *\[\(.*[^ ]\)\].*/\1/p' /run/cloud-init/result.json 2>/dev/null)"
  if [ -n "$errors" ]; then say "note: cloud-init finished with errors: $errors"; fi
}

main "$@"
exit
