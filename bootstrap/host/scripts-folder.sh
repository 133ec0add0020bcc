#!/bin/sh
# Keeps the folder of the scripts on a host behind OpenSSH in order: $TANDEM_HOST_DIR/scripts/<digest>, one folder a version. The link
# `current` leads to the version of the newest client, for what has to start a script by itself, such as a timer.
# Usage: scripts-folder.sh tidy   removes the versions that nobody uses
# Reads: TANDEM_SCRIPTS_DIR       the version that stays
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"

# A work carries the folder of its scripts in its environment.
is_in_use() { [ -n "$(marked_processes "TANDEM_SCRIPTS_DIR=$1")" ]; }

tidy() {
  scripts="${TANDEM_SCRIPTS_DIR%/*}"
  ln -sfn "${TANDEM_SCRIPTS_DIR##*/}" "$scripts/.current.$$"
  mv -fT "$scripts/.current.$$" "$scripts/current"
  for version in "$scripts"/*; do
    if [ ! -d "$version" ] || [ -L "$version" ] || [ "$version" = "$TANDEM_SCRIPTS_DIR" ] || is_in_use "$version"; then continue; fi
    rm -rf "$version"
  done
  # What was being unpacked when its client or the host died.
  find "$scripts" -mindepth 1 -maxdepth 1 -name '.*' -mmin +60 -exec rm -rf {} +
}

case "${1:-}" in
  tidy) tidy ;;
  *) die 2 "scripts-folder.sh — got '${1:-}' — allowed: tidy" ;;
esac
exit
