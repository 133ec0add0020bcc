# shellcheck shell=sh
# Sourced by doctor.sh and capsule.sh: runs the parts of a script side by side and waits for none of them longer than the limit.
# A process that hangs in the kernel (a dead GPU, a dead disk) can't be ended, and whoever waits for it or reads its pipe hangs
# with it. So every part writes into a file of its own and is left behind when the time is over.
# Reads: TANDEM_SCRIPTS_DIR, TANDEM_HOST_DIR   see common.sh

# Prints a new folder for the parts' answers, in memory where there is some: a full or read-only disk is what is examined here.
bounded_folder() {
  for place in /dev/shm /run "${TMPDIR:-/tmp}" "$TANDEM_HOST_DIR"; do
    if mktemp -d "$place/tandem-XXXXXX" 2>/dev/null; then return; fi
  done
  return 1
}

# bounded_run SCRIPT LIMIT_SECONDS NAME...: runs `SCRIPT part NAME` for each; $bounded/NAME is what it printed, and
# $bounded/NAME.done is there when it came to its end.
bounded_run() {
  script="$1" limit="$2"
  shift 2
  bounded="$(bounded_folder)" || die 1 "no folder on this host can be written to: neither /dev/shm, /run nor /tmp"
  groups=''
  trap bounded_end EXIT
  trap 'exit 143' TERM INT HUP
  for name in "$@"; do
    # shellcheck disable=SC2016 # Expanded by the shell that is started.
    setsid sh -c 'sh "$1" part "$2" >"$3" 2>"$3.err"; : >"$3.done"' sh "$script" "$name" "$bounded/$name" </dev/null >/dev/null 2>&1 &
    groups="$groups $!"
  done
  deadline=$(($(date +%s) + limit))
  until bounded_all_done "$@" || [ "$(date +%s)" -ge "$deadline" ]; do sleep 0.05; done
}

bounded_all_done() {
  for name in "$@"; do [ -e "$bounded/$name.done" ] || return 1; done
}

# Each part has a process group of its own. Not waited for: see above.
bounded_end() {
  for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null || :; done
  rm -rf "$bounded"
}
