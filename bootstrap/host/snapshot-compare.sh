# shellcheck shell=sh
# Sourced: compares a host with the snapshot of its lease. Needs snapshot.sh and journal.sh.

# Says what differs, each with whose it is: left on purpose, ours and still there (status 1), or changed by others meanwhile.
snapshot_compare() {
  journal_kept | while IFS= read -r line; do say "left on purpose: $line"; done
  [ -f "$TANDEM_STACK_DIR/snapshot" ] || return 0
  snapshot_now >"$TANDEM_STACK_DIR/snapshot.now"
  differences="$(snapshot_differences)"
  [ -n "$differences" ] || return 0
  compare_status=0
  while IFS="$(printf '\t')" read -r kind name change; do
    case "$(snapshot_owner "$kind" "$name")" in
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

# Whose a difference is: kept, shared, ours or nothing: snapshot_owner KIND NAME
# shellcheck disable=SC2154 # $ports is the sweep's.
snapshot_owner() {
  if journal_kept | cut -d: -f1 | grep -qxF -e "$2" -e "$1 $2" -e "$1 ${2%:*}"; then
    echo kept
    return
  fi
  case "$1" in
    package) kinds='package' ;;
    hold) kinds='hold' ;;
    unit) kinds='unit' ;;
    user | linger) kinds='user' ;;
    etc) kinds='file repository unit' ;;
    mount) kinds='mount' ;;
    port)
      if printf '%s\n' "$ports" | grep -qxF "$2"; then echo ours; fi
      return
      ;;
    *) return ;;
  esac
  for kind_of_ours in $kinds; do
    # dpkg names a package of another architecture with it; a unit is in the journal without its folder.
    for name_of_ours in "$2" "${2%:*}" "${2##*/}"; do
      if [ -n "$(journal_elsewhere "$kind_of_ours" "$name_of_ours")" ]; then
        echo shared
        return
      fi
      if journal_records "$TANDEM_STACK_DIR/journal/entries" |
        KIND="$kind_of_ours" NAME="$name_of_ours" LC_ALL=C awk -F '\t' '$1 == "+" && $4 == ENVIRON["KIND"] && $5 == ENVIRON["NAME"] { found = 1 } END { exit !found }'; then
        echo ours
        return
      fi
    done
  done
}
