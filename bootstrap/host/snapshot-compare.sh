# shellcheck shell=sh
# Sourced: compares a host with the snapshot of its lease. Needs snapshot.sh and journal.sh.

# Says what differs, each with whose it is: left on purpose, ours and still there (status 1), or changed by others meanwhile.
snapshot_compare() {
  journal_kept | while IFS= read -r line; do say "left on purpose: $line"; done
  [ -f "$TANDEM_STACK_DIR/snapshot" ] || return 0
  snapshot_now >"$TANDEM_STACK_DIR/snapshot.now"
  differences="$(snapshot_differences | snapshot_owners)"
  [ -n "$differences" ] || return 0
  compare_status=0
  while IFS="$(printf '\t')" read -r owner kind name change; do
    case "$owner" in
      kept) ;;
      shared) say "left for another stack: $kind $name" ;;
      ours)
        # What came and went between our lease and our change was somebody else's.
        if [ "$change" = gone ]; then continue; fi
        say "not taken back: $kind $name ($change)"
        compare_status=1
        ;;
      *) say "changed by others meanwhile: $kind $name ($change)" ;;
    esac
  done <<DIFFERENCES
$differences
DIFFERENCES
  return "$compare_status"
}

# "KIND NAME new|gone|changed" for each difference.
snapshot_differences() {
  LC_ALL=C awk -F '\t' -v OFS='\t' '
    FILENAME == ARGV[1] { before[$1 OFS $2] = $3; next }
    { key = $1 OFS $2; seen[key] = 1 }
    !(key in before) { print key, "new"; next }
    before[key] != $3 { print key, "changed" }
    END { for (key in before) if (!(key in seen)) print key, "gone" }' "$TANDEM_STACK_DIR/snapshot" "$TANDEM_STACK_DIR/snapshot.now" |
    LC_ALL=C sort
}

# Puts whose it is before each difference, "kept", "shared", "ours" or "others". Looks once for all of them: an upgrade by others
# makes hundreds.
# shellcheck disable=SC2154 # $ports is the sweep's.
snapshot_owners() {
  {
    journal_list | LC_ALL=C awk -F '\t' -v OFS='\t' '$3 == "kept" { print "kept", $4 }'
    for other in "$TANDEM_HOST_DIR"/stacks/*/journal; do
      if [ "$other" = "$TANDEM_STACK_DIR/journal" ]; then continue; fi
      journal_live "$other/entries" | LC_ALL=C awk -F '\t' -v OFS='\t' '{ print "shared", $3, $4 }'
    done
    journal_records "$TANDEM_STACK_DIR/journal/entries" | LC_ALL=C awk -F '\t' -v OFS='\t' '$1 == "+" { print "ours", $4, $5 }'
    for port in $ports; do printf 'ours\tport\t%s\n' "$port"; done
    LC_ALL=C sed 's/^/differs\t/'
  } | LC_ALL=C awk -F '\t' -v OFS='\t' '
    BEGIN {
      kinds["package"] = "package"; kinds["hold"] = "hold"; kinds["unit"] = "unit"; kinds["user"] = kinds["linger"] = "user"
      kinds["etc"] = "file repository unit"; kinds["mount"] = "mount"; kinds["port"] = "port"
    }
    $1 == "kept" { kept[$2]; next }
    $1 != "differs" { if (!(($2, $3) in owner)) owner[$2, $3] = $1; next }
    {
      # dpkg names a package of another architecture with it; a unit is in the journal without its folder.
      names[1] = names[2] = names[3] = $3
      sub(/:[^:]*$/, "", names[2])
      sub(/.*\//, "", names[3])
      print whose($2), $2, $3, $4
    }
    function whose(kind,    of_ours, n, i, j) {
      if (names[1] in kept || (kind " " names[1]) in kept || (kind " " names[2]) in kept) return "kept"
      n = split(kinds[kind], of_ours, " ")
      for (i = 1; i <= n; i++) for (j = 1; j <= 3; j++) if ((of_ours[i], names[j]) in owner) return owner[of_ours[i], names[j]]
      return "others"
    }'
}
