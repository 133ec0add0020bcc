# shellcheck shell=sh
# Sourced: packages of the distribution. What comes with a package is written into the journal before it is installed, by name, so
# that all of it can go again. Needs journal.sh.

# apt-get that waits for another user of dpkg and never asks.
quiet_apt() {
  DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# Finishes what an interrupted dpkg left, which refuses everything else until then.
repair_dpkg() {
  if [ -n "$(find /var/lib/dpkg/updates -type f -print -quit 2>/dev/null)" ] || [ -n "$(dpkg --audit 2>/dev/null)" ]; then
    say "finishing what an interrupted dpkg left"
    DEBIAN_FRONTEND=noninteractive dpkg --force-confold --configure -a >/dev/null 2>&1 || :
  fi
}

# Writes down every package that an installation would add or raise, before it happens: journal_installation PACKAGE...
journal_installation() {
  simulated="$(quiet_apt -s install --no-install-recommends "$@")" || return 1
  # "Inst name (new ...)" or "Inst name [old] (new ...)"
  for added in $(printf '%s\n' "$simulated" | LC_ALL=C awk '$1 == "Inst" && $3 !~ /^\[/ { print $2 }'); do
    journal_add package "$added"
  done
  printf '%s\n' "$simulated" | LC_ALL=C awk '$1 == "Inst" && $3 ~ /^\[/ { print $2, $3 }' | while read -r raised from; do
    journal_add kept "package $raised" "raised from ${from}; an older version can't be had back safely"
  done
}

# apt_install PACKAGE...
apt_install() {
  repair_dpkg
  {
    quiet_apt update && journal_installation "$@" && quiet_apt install -y --no-install-recommends "$@"
  } >/dev/null || die 25 "apt-get could not install $* — fix: install it by hand"
}

# Removes packages with their configuration: remove_packages PACKAGE... ; what others have come to need stays and is said.
remove_packages() {
  there=''
  for package in "$@"; do
    # What was removed by hand has left its configuration behind.
    if dpkg-query -s "$package" >/dev/null 2>&1; then there="$there $package"; fi
  done
  [ -n "$there" ] || return 0
  repair_dpkg
  say "removing the packages$there"
  remove_half_unpacked || return 1
  while [ -n "$there" ]; do
    # shellcheck disable=SC2086 # Names of packages are meant to be split.
    simulated="$(quiet_apt -s purge $there 2>/dev/null)" || return 1
    # A package that nobody listed would go too: it was installed since and needs one of ours.
    strange="$(printf '%s\n' "$simulated" | LC_ALL=C awk -v ours="$there" '
      BEGIN { n = split(ours, name, " "); for (i = 1; i <= n; i++) mine[name[i]] = 1 }
      ($1 == "Purg" || $1 == "Remv") && !($2 in mine) { print $2 }')"
    [ -n "$strange" ] || break
    keep_what_is_needed
  done
  [ -n "$there" ] || return 0
  # shellcheck disable=SC2086
  quiet_apt purge -y --no-auto-remove $there >/dev/null || return 1
}

# A dpkg that was killed while it unpacked a package leaves one of which apt wants the archive before it does anything else, even remove
# it. Takes those out of $there.
remove_half_unpacked() {
  whole=''
  for package in $there; do
    case "$(dpkg-query -W -f "\${db:Status-Eflag}" "$package")" in
      reinstreq) dpkg --purge --force-remove-reinstreq --force-depends "$package" >/dev/null || return 1 ;;
      *) whole="$whole $package" ;;
    esac
  done
  there="$whole"
}

# Takes those out of $there without which one of $strange could not be.
keep_what_is_needed() {
  left=''
  for package in $there; do
    for needer in $(quiet_apt -s purge "$package" 2>/dev/null | LC_ALL=C awk '$1 == "Purg" || $1 == "Remv" { print $2 }'); do
      if printf '%s\n' "$strange" | grep -qxF "$needer"; then
        journal_add kept "package $package" "$needer, installed since, needs it"
        say "leaving the package $package: $needer, installed since, needs it"
        continue 2
      fi
    done
    left="$left $package"
  done
  # Never round and round.
  if [ "$left" = "$there" ]; then left=''; fi
  there="$left"
}
