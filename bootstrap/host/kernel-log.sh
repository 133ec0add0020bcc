# shellcheck shell=sh
# Sourced by doctor.sh and capsule.sh: the kernel's log since boot.
# Reads: TANDEM_KERNEL_LOG   a file in place of it; for tests

# Prints "<seconds ago> <message>" for each line that matches the pattern (extended, case counts), oldest first.
# Status 1 when this user may not read the log. kernel_lines PATTERN
kernel_lines() {
  if [ -n "${TANDEM_KERNEL_LOG:-}" ]; then
    lines="$(cat "$TANDEM_KERNEL_LOG")"
  elif lines="$(timeout 4 dmesg 2>/dev/null)" && [ -n "$lines" ]; then
    :
  else
    # Without root; the journal lets members of adm and systemd-journal read it.
    lines="$(timeout 6 journalctl -k -b --no-pager -q -o short-monotonic 2>/dev/null)" && [ -n "$lines" ] || return 1
  fi
  printf '%s\n' "$lines" | grep -E "$1" | LC_ALL=C awk -v up="$(cut -d. -f1 /proc/uptime)" '
    match($0, /^\[ *[0-9]+\.[0-9]+\]/) {
      stamp = substr($0, 2, RLENGTH - 2) + 0
      message = substr($0, RLENGTH + 2)
      # The journal puts host and "kernel:" before the message.
      sub(/^[^ ]+ kernel: /, "", message)
      ago = int(up - stamp)
      print (ago < 0 ? 0 : ago), message
    }' | tail -n 2000
}
