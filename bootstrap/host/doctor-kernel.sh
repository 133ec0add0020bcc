# shellcheck shell=sh
# Sourced by doctor.sh: what the kernel's log says of GPUs, memory and disks since boot.
# shellcheck source=kernel-log.sh
. "$TANDEM_SCRIPTS_DIR/kernel-log.sh"

DISK_ERRORS='I/O error, dev|EXT4-fs error|XFS .*(shutdown|error)|Remounting filesystem read-only'

check_kernel() {
  if ! seen="$(kernel_lines "NVRM: Xid|Out of memory: Killed|$DISK_ERRORS")"; then
    text="the kernel's log is not shown here: GPU errors (Xid), lack of memory and disk errors are not checked"
    if [ "$(id -u)" -eq 0 ]; then
      verdict kernel ok "$text (a container)"
    else
      verdict kernel warn "$text" "work as root, or: sudo usermod -aG systemd-journal $(id -un)"
    fi
    return
  fi
  # One line for each kind of GPU error on each GPU: number, count, seconds since the last, PCI address, the last message.
  printf '%s\n' "$seen" | LC_ALL=C awk '
    match($0, /NVRM: Xid \(PCI:[0-9A-Fa-f:.]+\): [0-9]+/) {
      split(substr($0, RSTART + 11, RLENGTH - 11), part, /\): /)
      key = part[2] " " part[1]
      count[key]++; ago[key] = $1; message[key] = substr($0, RSTART)
      if (!(key in order)) { order[key] = ++kinds; name[kinds] = key }
    }
    END { for (i = 1; i <= kinds; i++) {
      split(name[i], part, " ")
      sub(/^PCI:/, "", part[2])
      printf "%s %d %d %s %s\n", part[1], count[name[i]], ago[name[i]], part[2], message[name[i]]
    } }' | while IFS= read -r line; do verdict xid data "$line"; done
  tell_kernel oom warn "$(printf '%s\n' "$seen" | grep -E 'Out of memory: Killed')" \
    "the kernel ended programs because memory ran out" "choose a smaller model or serving.maxModelLen, or stop other programs"
  tell_kernel disk fail "$(printf '%s\n' "$seen" | grep -E "$DISK_ERRORS")" \
    "the kernel met disk errors" "save what matters and replace the disk; smartctl -a says more"
  verdict kernel ok "the kernel's log since boot was read"
}

# tell_kernel CODE VERDICT LINES TEXT CURE: one verdict with the count and the last line; nothing without lines.
tell_kernel() {
  [ -n "$3" ] || return 0
  last="$(printf '%s\n' "$3" | tail -n 1)"
  verdict "$1" "$2" "$4 ($(printf '%s\n' "$3" | grep -c .) times, last $((${last%% *} / 60)) min ago: ${last#* })" "$5"
}
