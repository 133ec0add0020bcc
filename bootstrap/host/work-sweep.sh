# shellcheck shell=sh
# Sourced by work.sh: takes everything of a stack away and proves that it is gone.

# The client waits three minutes for the whole sweep.
UNDO_SECONDS=120

# Undoes what is applied, newest first, then ends units and strays, removes the folder and looks whether anything is left.
sweep() {
  # shellcheck source=unit.sh
  . "$TANDEM_SCRIPTS_DIR/unit.sh"
  failed=''
  ports="$(cat "$TANDEM_STACK_DIR"/units/*/port 2>/dev/null || :)"
  for name in $(steps_in_order | sort_reversed); do
    use_step "$name"
    undo_quietly || failed="$failed $name"
  done
  stop_all_units
  end_marked 5 "TANDEM_STACK_DIR=$TANDEM_STACK_DIR" TANDEM_OWNER || :
  if [ -n "$failed" ]; then die 1 "could not undo:$failed — the folder $TANDEM_STACK_DIR stays — fix: see the lines above, then run it again"; fi
  if [ -L "$TANDEM_STACK_DIR" ]; then die 1 "refusing to remove $TANDEM_STACK_DIR: it is a link"; fi
  rm -rf "$TANDEM_STACK_DIR"
  prove_gone
}

# tac is not POSIX.
sort_reversed() { sed -n '1!G;h;$p'; }

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
