#!/bin/sh
# Stands for apt-cache: answers `policy NAME` and `madison NAME` from lists in the form that `apt-cache madison` prints.
# Compared with apt 2.6 on the lists of Debian 12 and 13: same candidates, same lines.
# Reads: APT_LISTS   files of lists, separated by spaces, the preferred first; APT_BRANCH   the branch that a pinning package locks
# shellcheck disable=SC2086 # Names of files are meant to be split.
lines() { cat $APT_LISTS | sed 's/^ *//' | awk -F ' *\\| *' -v name="$1" '$1 == name'; }
case "$1" in
  madison) lines "$2" ;;
  policy)
    # Backports are never preferred. A pinning package prefers its branch.
    chosen="$(lines "$2" | grep -v backports | awk -F ' *\\| *' -v branch="$APT_BRANCH" '
      branch != "" && index($2, branch ".") == 1 { print $2; found = 1; exit } NR == 1 { first = $2 } END { if (!found) print first }' | head -n 1)"
    printf '%s:\n  Installed: (none)\n  Candidate: %s\n' "$2" "${chosen:-(none)}"
    ;;
esac
