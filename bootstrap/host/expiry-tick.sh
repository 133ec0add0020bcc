#!/bin/sh
# Ends what has a limited time, by the clock or by the time that has really passed, whichever comes first: a clock that is set
# back can't prolong it. Needs nothing of Tandem's: it is also what user data puts on a rented machine.
# Usage: expiry-tick.sh FOLDER         looks once
#        expiry-tick.sh FOLDER loop    looks again and again, where there is no systemd
# FOLDER holds  expires   the end, in seconds since 1970      lifetime  seconds that may pass in all
#               used      "<boot id> <uptime> <seconds passed before>" of the last look
#               end       a script that ends it; it is run again with each look until the folder is gone
set -u
umask 077
folder="$1"

# A number from a file; what can't be read means that the time is over: nothing may live on because of a damaged file.
number() {
  if ! read -r value 2>/dev/null <"$folder/$1"; then value=0; fi
  case "$value" in
    '' | *[!0-9]*) value=0 ;;
  esac
  echo "$value"
}

# Seconds that have passed since the timer was armed, over all boots, by the kernel's own clock. A boot counts from its first look
# on: in a container the uptime is that of the machine around it.
passed() {
  boot='' before=0 sum=0
  if [ -f "$folder/used" ]; then read -r boot before sum <"$folder/used" || :; fi
  uptime="$(cut -d. -f1 /proc/uptime)"
  now_boot="$(cat /proc/sys/kernel/random/boot_id)"
  if [ "$boot" != "$now_boot" ]; then before="$uptime"; fi
  sum=$((${sum:-0} + uptime - ${before:-0}))
  echo "$now_boot $uptime $sum" >"$folder/used.new" && mv -f "$folder/used.new" "$folder/used"
  echo "$sum"
}

is_over() { [ "$(date +%s)" -ge "$(number expires)" ] || [ "$(passed)" -ge "$(number lifetime)" ]; }

look() {
  [ -d "$folder" ] || exit 0
  if is_over; then
    echo "the time is over: $folder/end" >&2
    touch "$folder/ending" 2>/dev/null
    sh "$folder/end"
  fi
}

case "${2:-once}" in
  once) look ;;
  loop)
    while [ -d "$folder" ]; do
      look
      left=$(($(number expires) - $(date +%s)))
      if [ "$left" -lt 1 ]; then left=1; fi
      if [ "$left" -gt 15 ]; then left=15; fi
      sleep "$left"
    done
    ;;
  *)
    echo "expiry-tick.sh — got '$2' — allowed: loop" >&2
    exit 2
    ;;
esac
