# shellcheck shell=sh
# Sourced: what stacks of a host share and is dear to bring again: runtimes, weights, and what the programs keep beside them.
# Whoever uses such a thing writes it into its journal as `cache`, with the detail `made` when it brought it. When a stack goes
# whose lease says `remove`, what it made goes too, unless another stack uses it: then that one inherits it.
# Needs journal.sh.

# Folders in the user's home that our programs fill on their own account: package caches, compiled kernels.
HOME_LEAVINGS='.cache/uv .cache/pip .cache/vllm .cache/torch .cache/huggingface .cache/flashinfer .cache/mesa_shader_cache
.cache/torch_extensions .triton .nv .config/vllm .config/matplotlib'

# At the time of the lease: those that are not there yet will be ours.
cache_note_leavings() {
  {
    for leaving in $HOME_LEAVINGS; do
      if [ ! -e "$HOME/$leaving" ]; then printf '%s\tmade\n' "$HOME/$leaving"; fi
    done
    for folder in runtimes models tools; do
      if [ -e "$TANDEM_CACHE_DIR/$folder" ]; then how=found; else how=made; fi
      printf '%s\t%s\n' "$TANDEM_CACHE_DIR/$folder" "$how"
    done
  } | journal_add_caches
}

# cache_use PATH made | found
cache_use() {
  # Found by a step that was cut after it had made it: the first word counts.
  journal_add cache "$1" "$2"
}

# Removes what this stack made, where its lease says so. Keeps it when TANDEM_KEEP_CACHE is 1.
cache_leave() {
  lease_cache=keep
  if [ -f "$TANDEM_STACK_DIR/lease.json" ]; then eval "$(json_assignments lease_ <"$TANDEM_STACK_DIR/lease.json")"; fi
  if [ "$lease_cache" = remove ] && [ "${TANDEM_KEEP_CACHE:-}" != 1 ]; then cache_remove_made; fi
  # Empty ones tell nothing and cost nothing to make again.
  for folder in runtimes models tools; do rmdir "$TANDEM_CACHE_DIR/$folder" 2>/dev/null || :; done
  rmdir "$TANDEM_CACHE_DIR" 2>/dev/null || :
  for folder in "$HOME/.cache" "$HOME/.config"; do rmdir "$folder" 2>/dev/null || :; done
}

cache_remove_made() {
  made="$(journal_list | LC_ALL=C awk -F '\t' '$3 == "cache" && $5 == "made"' | sort_reversed)"
  while IFS="$(printf '\t')" read -r number _ _ name _; do
    [ -n "$number" ] || continue
    if cache_bequeath "$name"; then
      [ ! -e "$name" ] || say "leaving $name: another stack uses it"
    else
      cache_remove "$name" || return 1
    fi
    journal_strike "$number"
  done <<ENTRIES
$made
ENTRIES
}

# Makes another stack that uses it the one that removes it: cache_bequeath PATH; status 1 when there is none.
cache_bequeath() {
  [ -n "$(journal_elsewhere cache "$1")" ] || return 1
  for heir in "$TANDEM_HOST_DIR"/stacks/*/; do
    heir="${heir%/}" inherited=''
    if [ "$heir" != "$TANDEM_STACK_DIR" ]; then inherited="$(journal_number "$heir/journal/entries" cache "$1")"; fi
    [ -n "$inherited" ] || continue
    (
      flock -w 60 6 || die 75 "the journal in $heir is locked — fix: try again"
      journal_append "$heir/journal" + "$(journal_next_number "$heir/journal")" lease cache "$1" made
      journal_append "$heir/journal" - "$inherited"
    ) 6>>"$heir/journal/lock"
    return 0
  done
}

cache_remove() {
  case "$1" in
    "$TANDEM_CACHE_DIR"/?* | "$HOME"/.?*) ;;
    *) say "refusing to remove $1: it is not in the cache" && return 0 ;;
  esac
  container_forget "$1"
  if [ -e "$1" ]; then say "removing $1"; fi
  rm -rf "$1" "$1.lock"
}
