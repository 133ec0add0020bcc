# shellcheck shell=sh
# Sourced by work.sh: takes everything of a stack away, proves that it is gone and compares the host with what it was. It needs
# nothing but the host: not the client that began the work, not Pulumi's state. Cut at any point it goes on when it is run again.
# shellcheck source=unit.sh
. "$TANDEM_SCRIPTS_DIR/unit.sh"
# shellcheck source=journal-undo.sh
. "$TANDEM_SCRIPTS_DIR/journal-undo.sh"
# shellcheck source=cache.sh
. "$TANDEM_SCRIPTS_DIR/cache.sh"
# shellcheck source=snapshot.sh
. "$TANDEM_SCRIPTS_DIR/snapshot.sh"
# shellcheck source=snapshot-compare.sh
. "$TANDEM_SCRIPTS_DIR/snapshot-compare.sh"
# shellcheck source=host-folder.sh
. "$TANDEM_SCRIPTS_DIR/host-folder.sh"

# Removing a driver builds the boot image anew. The client waits longer than this for the whole sweep.
UNDO_SECONDS=600

# Undoes what is applied, newest first, then what the journal still lists, ends units and strays, compares, removes the folder.
# The lease is last: until everything is back nobody else gets the host.
sweep() {
  failed=''
  ports="$(cat "$TANDEM_STACK_DIR"/units/*/port 2>/dev/null || :)"
  if [ -L "$TANDEM_STACK_DIR" ]; then die 1 "refusing to remove $TANDEM_STACK_DIR: it is a link"; fi
  if [ -d "$TANDEM_STACK_DIR" ]; then
    exec 5>>"$TANDEM_STACK_DIR/sweep.lock"
    flock -w 150 5 || die 75 "another client has been taking this stack away for 150 s — fix: try again"
  fi
  for name in $(steps_in_order | sort_reversed); do
    [ "$name" != lease ] || continue
    use_step "$name"
    undo_quietly || failed="$failed $name"
  done
  stop_all_units
  container_end || failed="$failed containers"
  end_marked 5 "TANDEM_STACK_DIR=$TANDEM_STACK_DIR" TANDEM_OWNER || :
  journal_undo "" || failed="$failed journal"
  if [ -n "$failed" ]; then die 1 "could not undo:$failed — the folder $TANDEM_STACK_DIR stays — fix: see the lines above, then run it again"; fi
  snapshot_compare || die 1 "this host is not as it was, see the lines above — the folder $TANDEM_STACK_DIR stays — fix: take it back by hand, then run it again"
  leave_host
  prove_gone
}

# Caches are shared, so who leaves does it with the host's lock.
leave_host() {
  [ -d "$TANDEM_HOST_DIR" ] || return 0
  lock_host
  cache_leave
  rm -rf "$TANDEM_STACK_DIR"
  leave_host_folder
  unlock_host
}

# shellcheck disable=SC2034,SC2154 # Set by use_step and read by begin_or_attach, in work-steps.sh.
undo_quietly() {
  [ "$(cat "$step_dir/state" 2>/dev/null || echo undone)" != undone ] || return 0
  say "undoing $step"
  assignments="$(cat "$step_dir/values")" document='{}' secrets='{}' TANDEM_REPAIR=''
  TANDEM_TIMEOUT_SECONDS="$UNDO_SECONDS"
  # In a shell of its own: a step that can't be undone must not keep the others.
  (begin_or_attach undo && attach)
}

stop_all_units() {
  for folder in "$TANDEM_STACK_DIR"/units/*/; do
    [ -d "$folder" ] || continue
    name="$(basename "$folder")"
    say "stopping the unit $name"
    unit_stop "$name" && unit_remove "$name" || failed="$failed $name"
  done
}

prove_gone() {
  left="$(marked_processes "TANDEM_STACK_DIR=$TANDEM_STACK_DIR" TANDEM_OWNER | tr '\n' ' ')"
  if [ -n "$left" ]; then die 1 "these processes of the stack survive: $left"; fi
  if [ -e "$TANDEM_STACK_DIR" ]; then die 1 "the folder $TANDEM_STACK_DIR is still there"; fi
  for port in $ports; do
    holder="$(port_holder "$port")"
    # Another program may have taken the port since; what matters is that it is none of ours, which was looked at above.
    if [ -n "$holder" ]; then say "port $port is now held by another program: $holder"; fi
  done
  say "nothing of the stack $TANDEM_STACK is left on this host"
}
