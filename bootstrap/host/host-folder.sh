# shellcheck shell=sh
# Sourced: the folder that all stacks of a host share, $TANDEM_HOST_DIR: stacks/<stack>, scripts/<digest> (put there by the runner),
# and lock, held while somebody takes or leaves the host.

# The last stack removes the folder with the lock in it, so whoever has waited looks whether its lock is still the one.
lock_host() {
  for try in 1 2 3 4 5 6 7 8 9 10; do
    private_dir "$TANDEM_HOST_DIR"
    exec 7>>"$TANDEM_HOST_DIR/lock"
    flock -w 120 7 || die 75 "another stack has been taking or leaving this host for two minutes — fix: try again"
    if [ "$(stat -Lc %d:%i /proc/self/fd/7)" = "$(stat -c %d:%i "$TANDEM_HOST_DIR/lock" 2>/dev/null)" ]; then return; fi
    exec 7>&-
  done
  die 75 "this host's folder goes away again and again ($try times) — fix: try again"
}

unlock_host() { exec 7>&-; }

# Removes the folder with the scripts when no stack is left; needs the lock. The scripts that run are open or read already: what
# is called after this must come from them.
leave_host_folder() {
  rmdir "$TANDEM_HOST_DIR/stacks" 2>/dev/null || [ ! -e "$TANDEM_HOST_DIR/stacks" ] || return 0
  rm -rf "$TANDEM_HOST_DIR/scripts"
  rm -f "$TANDEM_HOST_DIR/lock"
  rmdir "$TANDEM_HOST_DIR" 2>/dev/null || return 0
  case "$TANDEM_HOST_DIR" in
    "$HOME"/.local/state/tandem/host)
      for folder in "$HOME/.local/state/tandem" "$HOME/.local/state" "$HOME/.local"; do
        rmdir "$folder" 2>/dev/null || break
      done
      ;;
  esac
}
