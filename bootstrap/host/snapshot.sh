# shellcheck shell=sh
# Sourced: what a host is like before the first change and after the last one. $TANDEM_STACK_DIR/snapshot holds a line for each
# thing: KIND NAME VALUE with tabs between. Under a second on a bare host; what this user may not read is left out both times.
# Kinds: package, hold, unit (unit files outside of /etc), user, group, linger, port (TCP listeners), etc (files and links below
# /etc, so what is enabled, too), mount.

# Files beyond these are not looked at: they are data, not configuration.
SNAPSHOT_FILES=20000
SNAPSHOT_FILE_KIB=1024
# Made from other files or rewritten by every boot: they tell nothing.
SNAPSHOT_DERIVED='^/etc/(ld\.so\.cache|mtab|resolv\.conf|adjtime|\.pwd\.lock|[^/]*-|machine-id|ssl/certs/.*|udev/hwdb\.bin|cups/subscriptions.*)$'

snapshot_take() { snapshot_now | write_file "$TANDEM_STACK_DIR/snapshot"; }

snapshot_now() {
  {
    snapshot_packages
    snapshot_units
    snapshot_accounts
    snapshot_ports
    snapshot_etc
    snapshot_mounts
  } 2>/dev/null | LC_ALL=C sort -u
}

snapshot_packages() {
  if command -v dpkg-query >/dev/null 2>&1; then
    # shellcheck disable=SC2016 # dpkg's own variables.
    dpkg-query -W -f '${db:Status-Want}\t${db:Status-Status}\t${binary:Package}\t${Version}\n' | LC_ALL=C awk -F '\t' -v OFS='\t' '
      $2 != "not-installed" && $2 != "config-files" { print "package", $3, $4 }
      $1 == "hold" { print "hold", $3, "held" }'
  elif command -v rpm >/dev/null 2>&1; then
    rpm -qa --qf 'package\t%{NAME}.%{ARCH}\t%{VERSION}-%{RELEASE}\n'
  fi
}

snapshot_units() {
  # Not asked of systemd: a list of its unit files takes its PID 1 more than half a second.
  for folder in /usr/local/lib/systemd /usr/lib/systemd "${XDG_CONFIG_HOME:-$HOME/.config}/systemd"; do
    for who in system user; do
      # The folder may be a link; what can't be read is left out.
      [ ! -d "$folder/$who" ] || find "$folder/$who/" -maxdepth 2 ! -type d -printf "unit\\t$who/%P\\t%y %l\\n" || :
    done
  done
}

snapshot_accounts() {
  cut -d: -f1,3,4,6,7 /etc/passwd | LC_ALL=C sed 's/^\([^:]*\):\(.*\)/user\t\1\t\2/'
  cut -d: -f1,3 /etc/group | LC_ALL=C sed 's/^\([^:]*\):\(.*\)/group\t\1\t\2/'
  for file in /var/lib/systemd/linger/*; do
    if [ -e "$file" ]; then printf 'linger\t%s\ton\n' "${file##*/}"; fi
  done
}

snapshot_ports() {
  LC_ALL=C awk '$4 == "0A" { split($2, address, ":"); print address[2] }' /proc/net/tcp /proc/net/tcp6 | sort -u | while read -r hex; do
    printf 'port\t%d\tlistens\n' "0x$hex"
  done
}

snapshot_etc() {
  find /etc -xdev -type l -printf 'etc\t%p\tlink to %l\n' | LC_ALL=C awk -F '\t' -v derived="$SNAPSHOT_DERIVED" '$2 !~ derived'
  find /etc -xdev -type f -size "-${SNAPSHOT_FILE_KIB}k" -readable -printf '%m %u:%g\t%p\n' |
    LC_ALL=C awk -F '\t' -v derived="$SNAPSHOT_DERIVED" '$2 !~ derived && $2 !~ /[\\\n]/' | head -n "$SNAPSHOT_FILES" | snapshot_sums
}

# "MODE OWNER<tab>PATH" lines, with the checksum of what is in them.
snapshot_sums() {
  listed="$(cat)"
  sums="$(printf '%s\n' "$listed" | cut -f2 | tr '\n' '\000' | xargs -0 -r sha256sum)"
  {
    printf '%s\n' "$listed"
    printf '=\n%s\n' "$sums"
  } | LC_ALL=C awk -F '\t' -v OFS='\t' '
    $0 == "=" { sums = 1; next }
    !sums { mode[$2] = $1; next }
    { path = substr($0, 67); print "etc", path, mode[path] " " substr($0, 1, 16) }'
}

# Only what lasts: no file systems of the kernel's, of sessions or of containers.
snapshot_mounts() {
  LC_ALL=C awk '{
    for (i = 7; i <= NF; i++) if ($i == "-") { kind = $(i + 1); break }
    if ($5 !~ "^/(proc|sys|dev|run/user|run/credentials|var/lib/(docker|containers|containerd|kubelet))(/|$)") print "mount\t" $5 "\t" kind
  }' /proc/self/mountinfo
}
