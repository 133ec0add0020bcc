# shellcheck shell=sh
# Sourced first by every host script: strict mode, the folders, messages, JSON, processes by their mark.
# Reads:  TANDEM_STACK       id of the stack on this host: a-z, 0-9 and dashes
#         TANDEM_HOST_DIR    what Tandem keeps on this host; /var/lib/tandem as root, else in the user's state folder
#         TANDEM_CACHE_DIR   runtimes and weights; ~/.cache/tandem
# Sets:   TANDEM_HOST_DIR, TANDEM_CACHE_DIR, TANDEM_STACK_DIR
set -eu
umask 077

if [ -z "${HOME:-}" ]; then
  HOME="$(getent passwd "$(id -u)" | cut -d: -f6)"
  export HOME
fi
if [ -z "${TANDEM_HOST_DIR:-}" ]; then
  if [ "$(id -u)" -eq 0 ]; then
    TANDEM_HOST_DIR=/var/lib/tandem
  else
    TANDEM_HOST_DIR="${XDG_STATE_HOME:-$HOME/.local/state}/tandem/host"
  fi
fi
: "${TANDEM_CACHE_DIR:=${XDG_CACHE_HOME:-$HOME/.cache}/tandem}"
TANDEM_STACK_DIR="$TANDEM_HOST_DIR/stacks/${TANDEM_STACK:-}"
export TANDEM_HOST_DIR TANDEM_CACHE_DIR TANDEM_STACK_DIR TANDEM_SCRIPTS_DIR

# Progress for people goes to standard error; standard output is for the result.
say() { printf '%s\n' "$*" >&2; }

# die STATUS MESSAGE
die() {
  status="$1"
  shift
  say "$*"
  exit "$status"
}

# Runs one of the three verbs of the step whose script this is, with the functions of the same names.
answer_step() {
  case "${1:-}" in
    check) check ;;
    apply) apply ;;
    undo) undo ;;
    *) die 2 "${0##*/} — got '${1:-}' — allowed: check, apply, undo" ;;
  esac
}

# Why a step does not hold, for `check`.
does_not_hold() {
  printf '%s\n' "$*"
  exit 10
}

require_name() {
  case "$2" in
    '' | *[!a-z0-9-]* | -*) die 2 "$1 is not a name — got '$2' — allowed: lower-case letters, digits and dashes" ;;
  esac
}

# Makes folders that only this user can enter. Refuses one that another user may have planted. private_dir FOLDER...
private_dir() {
  own_id="${own_id:-$(id -u)}" owners_and_modes="$(stat -c %u:%a "$@" 2>/dev/null)" || :
  all_private="$(for private; do echo "$own_id:700"; done)"
  # A link has another mode.
  [ "$owners_and_modes" = "$all_private" ] || for private; do make_private "$private"; done
}

make_private() {
  [ -d "$1" ] || mkdir -p "$1" 2>/dev/null || [ -d "$1" ] || die 1 "can't make the folder $1 — fix: make it writable, or set TANDEM_HOST_DIR"
  if [ -L "$1" ] || [ "$(stat -c %u "$1")" -ne "$own_id" ]; then
    die 1 "refusing to use $1: it is a link or belongs to another user — fix: remove it, or set TANDEM_HOST_DIR to a folder of your own"
  fi
  chmod 700 "$1"
}

# Replaces a file in one go; nobody ever sees a half-written one. Content comes on standard input.
write_file() {
  cat >"$1.new.$$" && mv -f "$1.new.$$" "$1"
}

# The same for a text that is at hand: put_file FILE TEXT
put_file() {
  printf '%s' "$2" >"$1.new.$$" && mv -f "$1.new.$$" "$1"
}

# The first line of a file as $file_line, without starting anything; empty where there is none.
read_line() {
  file_line=''
  # shellcheck disable=SC2034 # For who calls.
  if [ -r "$1" ]; then IFS= read -r file_line <"$1" || :; fi
}

# The scalar members of a JSON object on standard input as shell assignments: json_assignments PREFIX [REQUIRED_START]
json_assignments() {
  LC_ALL=C awk -v prefix="$1" -v only="${2:-}" -f "$TANDEM_SCRIPTS_DIR/json.awk"
}

# The document's scalar members as shell variables: `kind` becomes $doc_kind.
read_document() {
  eval "$(json_assignments doc_ <"$TANDEM_REQUEST")"
}

# Lines in the opposite order; tac is not POSIX.
sort_reversed() { sed -n '1!G;h;$p'; }

# A JSON string literal.
json_string() {
  json_quote "$1"
  printf '%s' "$quoted"
}

# The same as the variable $quoted, which starts nothing where nothing has to be escaped.
json_quote() {
  case "$1" in
    *[!A-Za-z0-9\ _./:@%+=,\;\(\)\#\'\?\!\&\<\>\|\~\*\{\}-]*)
      quoted="\"$(printf '%s' "$1" | LC_ALL=C tr -d '\000-\010\013-\037' |
        LC_ALL=C sed -e ':more' -e '$!{N;b more' -e '}' -e 's/\\/\\\\/g; s/"/\\"/g; s/\t/\\t/g; s/\n/\\n/g')\""
      ;;
    *) quoted="\"$1\"" ;;
  esac
}

# Process ids whose environment has every given NAME=value, or the NAME alone with any value. Ended processes have none.
marked_processes() {
  files='/proc/[0-9]*/environ'
  for mark in "$@"; do
    case "$mark" in
      *=*) how=-lzxF ;;
      *) how=-lz mark="^$mark=" ;;
    esac
    # shellcheck disable=SC2086 # Pattern and list of files are meant to be split; names in /proc hold no spaces.
    files="$(grep $how -e "$mark" $files 2>/dev/null || :)"
    [ -n "$files" ] || return 0
  done
  printf '%s\n' "$files" | cut -d/ -f3
}

# Ends all processes with the marks: asks, waits up to GRACE seconds, then kills, and again for what was forked meanwhile.
# end_marked GRACE MARK... ; status 1 when something survives.
end_marked() {
  grace_tenths=$(($1 * 10))
  shift
  signal=TERM
  rounds=0
  while processes="$(marked_processes "$@")" && [ -n "$processes" ]; do
    [ "$rounds" -lt "$grace_tenths" ] || signal=KILL
    [ "$rounds" -lt $((grace_tenths + 50)) ] || return 1
    if [ "$rounds" -eq 0 ] || [ "$signal" = KILL ]; then
      for process in $processes; do kill -s "$signal" "$process" 2>/dev/null || :; done
    fi
    rounds=$((rounds + 1))
    sleep 0.1
  done
}
