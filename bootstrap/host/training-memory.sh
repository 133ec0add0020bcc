# shellcheck shell=sh
# Sourced by training.sh: the memory file system from which vLLM reads adapters, since it takes them from a path only. Root under
# systemd gets one of the stack's own with a limit, mounted at boot; elsewhere it is a folder in /dev/shm.
# Needs unit.sh and journal.sh.

# A path without dashes: systemd names a mount by its path, and would escape them.
adapters_mark="$(printf '%s' "$TANDEM_STACK_DIR" | sha256sum | cut -c 1-8)"
adapters_mount="/run/tandem/adapters/$adapters_mark"
adapters_unit="run-tandem-adapters-$adapters_mark.mount"

# Where adapters lie: adapters_folder LIMIT_MIB, which is empty where the file system can't be the stack's own.
adapters_folder() {
  if [ -n "$1" ] && [ "$(service_manager)" = systemd-system ]; then
    printf '%s' "$adapters_mount"
  else
    printf '/dev/shm/tandem-%s-%s' "$TANDEM_STACK" "$adapters_mark"
  fi
}

# Makes the folder: adapters_prepare FOLDER LIMIT_MIB
adapters_prepare() {
  if [ "$1" != "$adapters_mount" ]; then
    private_dir "$1"
    return
  fi
  for missing in /run/tandem /run/tandem/adapters "$adapters_mount"; do journal_add dir "$missing"; done
  journal_add unit "$adapters_unit" system
  adapters_definition "$2" | (umask 022 && write_file "/etc/systemd/system/$adapters_unit")
  systemctl daemon-reload
  systemctl enable --quiet "$adapters_unit"
  # A reload takes over another limit.
  systemctl reload-or-restart "$adapters_unit" || die 35 "the memory file system $adapters_mount can't be mounted: $(systemctl status --no-pager --lines=3 "$adapters_unit" 2>&1 | tail -n 1)"
}

adapters_definition() {
  cat <<UNIT
[Unit]
Description=Tandem: adapters of the stack $TANDEM_STACK

[Mount]
What=tmpfs
Where=$adapters_mount
Type=tmpfs
Options=size=$1m,mode=0700,nosuid,nodev,noexec

[Install]
WantedBy=multi-user.target
UNIT
}

# Why the folder is not as it was made; nothing when it is: adapters_drift FOLDER
adapters_drift() {
  if [ ! -d "$1" ]; then
    echo "the adapters' folder in memory is gone: $1"
  elif [ "$1" = "$adapters_mount" ] && ! grep -qF " $adapters_mount " /proc/self/mountinfo; then
    echo "the adapters' memory file system is not mounted at $1"
  fi
}

# What the journal lists of it is taken back after this step's own undo.
adapters_remove() {
  if [ "$1" = "$adapters_mount" ]; then systemctl stop "$adapters_unit" 2>/dev/null || :; else rm -rf "$1"; fi
}
