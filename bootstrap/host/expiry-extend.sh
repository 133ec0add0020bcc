#!/bin/sh
# Moves the end of a stack on this host: the timer that expiry.sh armed, or the one that a rented machine armed at its first boot.
# Never brings it nearer. Changes nothing else.
# Reads: TANDEM_STACK, TANDEM_TTL_SECONDS   the end is so far from now
# Prints: the end, RFC 3339, or nothing where no timer is armed; 35 when the time is over already
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"

# Also read by user data, see bootstrap/cloud/user-data.ts.
MACHINE_FOLDER="${TANDEM_MACHINE_EXPIRY:-/var/lib/tandem-expiry}"

# extend FOLDER
extend() {
  [ ! -e "$1/ending" ] || die 35 "the time is over: it ends right now"
  sum=0
  if [ -f "$1/used" ]; then read -r _ _ sum <"$1/used"; fi
  later "$1/lifetime" $((sum + TANDEM_TTL_SECONDS))
  later "$1/expires" $(($(date +%s) + TANDEM_TTL_SECONDS))
  date -u -d "@$(cat "$1/expires")" +%Y-%m-%dT%H:%M:%SZ
}

# later FILE NUMBER: keeps the larger one
later() {
  if [ "$2" -gt "$(cat "$1")" ]; then echo "$2" | write_file "$1"; fi
}

for folder in "$MACHINE_FOLDER" "$TANDEM_STACK_DIR/expiry"; do
  if [ -f "$folder/expires" ]; then extend "$folder"; fi
done
exit
