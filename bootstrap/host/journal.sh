# shellcheck shell=sh
# Sourced: the journal of a stack on this host. What a step is about to change is written down first, so that it can be taken
# back when the step, the client or the power is gone. $TANDEM_STACK_DIR/journal holds
#   entries  one record a line, only ever appended to and on the disk before `journal_add` returns
#   saved    what a file was before it was replaced, by the number of its entry
#   lock     held while an entry is added
# A record is  + NUMBER STEP KIND NAME DETAIL end  or  - NUMBER end  with tabs between; the last word tells a whole line from one
# that a power loss cut.
# Kinds:  package     a package that was not there           repository  a file that names a package source, and its keys
#         hold        a package held against upgrades        file        a file or link, made or replaced
#         unit        a systemd unit; detail system or user  user        an account; detail linger: only its lingering
#         dir         a folder; detail tree: with all in it  mount       a mount point
#         cache       shared files that the last stack to use them removes, see journal-cache.sh
#         kept        what stays on purpose; the detail says why
# Undoing is in journal-undo.sh.
# Reads: TANDEM_STACK_DIR, TANDEM_OWNER   <stack>/<step> of the work

# journal_add KIND NAME [DETAIL]: before the change. The same entry twice is one. For `file` and `repository` it also saves
# what is there. A package, hold, account or folder that is there already is not ours: nothing is written.
journal_add() {
  case "$1" in
    package | repository | hold | file | unit | user | dir | mount | cache | kept) ;;
    *) die 2 "journal_add — got the kind '$1' — allowed: see journal.sh" ;;
  esac
  case "$2${3:-}" in
    *"$(printf '\t')"* | *"
"*) die 2 "journal_add $1 — a name with a tab or a new line can't be written down" ;;
  esac
  [ -n "$2" ] || die 2 "journal_add $1 — the name is empty"
  mkdir -p "$TANDEM_STACK_DIR/journal/saved"
  (
    flock -w 60 6 || die 75 "the journal in $TANDEM_STACK_DIR is locked — fix: try again"
    if journal_is_ours "$1" "$2"; then exit 0; fi
    journal_add_locked "$@"
  ) 6>>"$TANDEM_STACK_DIR/journal/lock"
}

# The same as `journal_add cache NAME DETAIL` for each line "NAME DETAIL", with a tab between, on standard input; all at once.
journal_add_caches() {
  mkdir -p "$TANDEM_STACK_DIR/journal/saved"
  (
    flock -w 60 6 || die 75 "the journal in $TANDEM_STACK_DIR is locked — fix: try again"
    entries="$TANDEM_STACK_DIR/journal/entries"
    : >>"$entries"
    # A new line comes first, as in journal_append.
    ENTRIES="$entries" STEP="${TANDEM_OWNER#*/}" LC_ALL=C awk -F '\t' '
      FILENAME != ENVIRON["ENTRIES"] {
        if (!($1 in live)) printf "\n+\t%d\t%s\tcache\t%s\t%s\tend\n", ++number, ENVIRON["STEP"], $1, $2
        live[$1] = 1
        next
      }
      $NF != "end" { next }
      $1 == "+" { number = $2; if ($4 == "cache") { name[$2] = $5; live[$5] = 1 } }
      $1 == "-" && $2 in name { delete live[name[$2]] }' "$entries" - >"$entries.new"
    cat "$entries.new" >>"$entries"
    rm -f "$entries.new"
    sync "$entries" "$TANDEM_STACK_DIR/journal"
  ) 6>>"$TANDEM_STACK_DIR/journal/lock"
}

# Whether there is a live entry of this kind and name: journal_is_ours KIND NAME
journal_is_ours() {
  [ -n "$(journal_number "$TANDEM_STACK_DIR/journal/entries" "$1" "$2")" ]
}

# Numbers of the live entries of one kind and name: journal_number ENTRIES KIND NAME
journal_number() {
  # Names hold backslashes, which awk's -v would eat.
  journal_live "$1" | KIND="$2" NAME="$3" LC_ALL=C awk -F '\t' '$3 == ENVIRON["KIND"] && $4 == ENVIRON["NAME"] { print $1 }'
}

journal_add_locked() {
  shared="$(journal_elsewhere "$1" "$2")"
  if [ -z "$shared" ] && was_there "$@"; then return 0; fi
  number="$(journal_next_number "$TANDEM_STACK_DIR/journal")"
  saved="$TANDEM_STACK_DIR/journal/saved/$number"
  case "$1" in
    file | repository)
      # The saved copy is whole before the entry names it.
      rm -rf "$saved"
      former="${shared:-$2}"
      if [ -e "$former" ] || [ -L "$former" ]; then
        cp -pP "$former" "$saved"
        [ -L "$saved" ] || sync "$saved"
        sync "$TANDEM_STACK_DIR/journal/saved"
      fi
      ;;
  esac
  journal_append "$TANDEM_STACK_DIR/journal" + "$number" "${TANDEM_OWNER#*/}" "$1" "$2" "${3:--}"
}

# Whether what would be made is there already: journal_add's arguments
was_there() {
  case "$1" in
    dir) [ -d "$2" ] ;;
    package) package_is_there "$2" ;;
    hold) apt-mark showhold 2>/dev/null | grep -qxF "$2" ;;
    user) if [ "${3:-}" = linger ]; then [ -e "/var/lib/systemd/linger/$2" ]; else getent passwd "$2" >/dev/null; fi ;;
    *) return 1 ;;
  esac
}

# What two stacks of a host share, e.g. a package that the first one brought: both write it down and the last one to go takes
# it back. Prints where another stack saved the former content; nothing when no other stack has it.
# journal_elsewhere KIND NAME
journal_elsewhere() {
  for other in "$TANDEM_HOST_DIR"/stacks/*/journal; do
    if [ ! -f "$other/entries" ] || [ "$other" = "$TANDEM_STACK_DIR/journal" ]; then continue; fi
    for shared_number in $(journal_number "$other/entries" "$1" "$2"); do
      printf '%s/saved/%s' "$other" "$shared_number"
      return
    done
  done
}

journal_next_number() {
  journal_records "$1/entries" | LC_ALL=C awk -F '\t' '$1 == "+" { n = $2 } END { print n + 1 }'
}

# A new line comes first, so that what a power loss cut stays a line of its own: journal_append JOURNAL FIELD...
journal_append() {
  (
    journal="$1"
    shift
    IFS="$(printf '\t')"
    printf '\n%s\tend\n' "$*" >>"$journal/entries"
    sync "$journal/entries" "$journal"
  )
}

# Whole records: journal_records ENTRIES
journal_records() {
  [ -f "$1" ] || return 0
  LC_ALL=C awk -F '\t' '$NF == "end"' "$1"
}

# What is not undone yet, oldest first, as "NUMBER STEP KIND NAME DETAIL" with tabs between; a detail that is not there is "-".
# journal_list [STEP]
journal_list() { journal_live "$TANDEM_STACK_DIR/journal/entries" "${1:-}"; }

# journal_live ENTRIES [STEP]
journal_live() {
  journal_records "$1" | LC_ALL=C awk -F '\t' -v OFS='\t' -v step="${2:-}" '
    $1 == "-" { gone[$2] = 1 }
    $1 == "+" { line[++n] = $2 OFS $3 OFS $4 OFS $5 OFS $6; number[n] = $2; of[n] = $3 }
    END { for (i = 1; i <= n; i++) if (!(number[i] in gone) && (step == "" || of[i] == step)) print line[i] }'
}

# Strikes an entry out: the change is taken back, or was never made. journal_remove KIND NAME
journal_remove() {
  for number in $(journal_number "$TANDEM_STACK_DIR/journal/entries" "$1" "$2"); do journal_strike "$number"; done
}

# The saved copy goes after the entry: a cut in between leaves a file too many, never one too few.
journal_strike() {
  journal_append "$TANDEM_STACK_DIR/journal" - "$1"
  rm -rf "$TANDEM_STACK_DIR/journal/saved/$1"
}

# Whether a package is installed, in whatever state dpkg left it: package_is_there NAME
package_is_there() {
  if command -v dpkg-query >/dev/null 2>&1; then
    # shellcheck disable=SC2016 # dpkg's own variables.
    case "$(dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null)" in
      '' | not-installed | config-files) return 1 ;;
    esac
  else
    rpm -q "$1" >/dev/null 2>&1
  fi
}
