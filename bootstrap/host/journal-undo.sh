# shellcheck shell=sh
# Sourced: takes back what the journal lists, newest first. Each entry is struck out once its change is gone, so a run that is cut
# goes on where it was. Whatever is gone already counts as taken back.
# shellcheck source=journal.sh
. "$TANDEM_SCRIPTS_DIR/journal.sh"
# shellcheck source=packages.sh
. "$TANDEM_SCRIPTS_DIR/packages.sh"

# journal_undo [STEP]: status 1 when something could not be taken back; the rest is done all the same. Entries of the kinds
# `cache` and `kept` stay: the sweep deals with them.
journal_undo() {
  undo_status=0
  packages='' package_numbers=''
  entries="$(journal_list "${1:-}" | sort_reversed)"
  while IFS="$(printf '\t')" read -r number _ kind name detail; do
    [ -n "$number" ] || continue
    if [ "$kind" != cache ] && [ "$kind" != kept ] && [ -n "$(journal_elsewhere "$kind" "$name")" ]; then
      journal_strike "$number"
      continue
    fi
    if [ "$kind" = package ]; then
      packages="$packages $name" package_numbers="$package_numbers $number"
      continue
    fi
    undo_packages
    case "$kind" in
      cache | kept) continue ;;
    esac
    if (undo_entry) </dev/null; then
      journal_strike "$number"
    else
      say "could not take back: $kind $name"
      undo_status=1
    fi
  done <<ENTRIES
$entries
ENTRIES
  undo_packages
  return "$undo_status"
}

# One entry, from $number, $kind, $name and $detail.
undo_entry() {
  case "$kind" in
    hold)
      if package_is_there "$name"; then apt-mark unhold "$name" >/dev/null; fi
      ;;
    file | repository) undo_file ;;
    unit) undo_unit ;;
    user) undo_user ;;
    dir) undo_dir ;;
    mount)
      if grep -qF " $name " /proc/self/mountinfo; then umount "$name"; fi
      ;;
    *) say "an entry of an unknown kind: $kind" && return 1 ;;
  esac
}

undo_file() {
  saved="$TANDEM_STACK_DIR/journal/saved/$number"
  if [ -e "$saved" ] || [ -L "$saved" ]; then
    say "putting back $name"
    mkdir -p "$(dirname "$name")"
    cp -pP "$saved" "$name.tandem-undo"
    mv -fT "$name.tandem-undo" "$name"
  else
    rm -f "$name"
  fi
}

undo_unit() {
  # Also when the unit's file is gone: what runs of it and its links are not.
  case "$detail" in
    user) folder="${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user" who=--user ;;
    *) folder=/etc/systemd/system who=--system ;;
  esac
  say "removing the unit $name"
  timeout 100 systemctl $who disable --quiet --now "$name" 2>/dev/null || :
  find "$folder" -maxdepth 2 \( -path "$folder/$name" -o -path "$folder/*.wants/$name" -o -path "$folder/*.requires/$name" \) -exec rm -f {} + 2>/dev/null || :
  rm -rf "${folder:?}/$name.d"
  if [ -d /run/systemd/system ]; then
    systemctl $who daemon-reload 2>/dev/null || :
    systemctl $who reset-failed "$name" 2>/dev/null || :
    case "$(systemctl $who is-active "$name" 2>/dev/null)" in
      active | activating | deactivating) return 1 ;;
    esac
  fi
}

undo_user() {
  case "$detail" in
    linger) loginctl disable-linger "$name" 2>/dev/null || [ ! -e "/var/lib/systemd/linger/$name" ] ;;
    *) if getent passwd "$name" >/dev/null; then userdel -r "$name" 2>/dev/null; fi ;;
  esac
}

undo_dir() {
  [ -d "$name" ] && [ ! -L "$name" ] || return 0
  case "$detail" in
    tree)
      case "$name" in
        /*/*) rm -rf "$name" ;;
        *) say "refusing to remove the folder $name" && return 1 ;;
      esac
      ;;
    # A folder that others use by now stays.
    *) rmdir "$name" 2>/dev/null || say "the folder $name stays: something else is in it" ;;
  esac
}

# The packages collected so far in one go: what one of them needs is usually another one.
undo_packages() {
  [ -n "$packages" ] || return 0
  # shellcheck disable=SC2086 # Names of packages are meant to be split.
  if remove_packages $packages </dev/null; then
    for struck in $package_numbers; do journal_strike "$struck"; done
  else
    undo_status=1
  fi
  packages='' package_numbers=''
}

# What stays on purpose, for people: "KIND NAME: why", one a line.
journal_kept() {
  journal_list | LC_ALL=C awk -F '\t' '$3 == "kept" { print $4 ($5 == "-" ? "" : ": " $5) }'
}
