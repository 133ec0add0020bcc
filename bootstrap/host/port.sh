# shellcheck shell=sh
# Sourced: who listens on a TCP port, from /proc alone.

# port_holder PORT: prints "<process id> <command>" of the listener, "unknown" when it can't be seen, nothing when it is free.
port_holder() {
  inodes="$(LC_ALL=C awk -v port="$(printf '%04X' "$1")" '
    $4 == "0A" { split($2, address, ":"); if (address[2] == port) print $10 }' /proc/net/tcp /proc/net/tcp6 2>/dev/null | sort -u)"
  [ -n "$inodes" ] || return 0
  for inode in $inodes; do
    descriptor="$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\[$inode\]" -print -quit 2>/dev/null || :)"
    [ -n "$descriptor" ] || continue
    pid="$(printf '%s' "$descriptor" | cut -d/ -f3)"
    printf '%s %s\n' "$pid" "$(tr '\000' ' ' <"/proc/$pid/cmdline" 2>/dev/null | cut -c 1-200)"
    return 0
  done
  # Another user's process, seen by one who is not root.
  echo unknown
}
