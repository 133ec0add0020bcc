# shellcheck shell=sh
# Sourced by doctor.sh: package manager, boot, services, lease.
# shellcheck source=unit.sh
. "$TANDEM_SCRIPTS_DIR/unit.sh"

# Prints "<process id> <command>" of the process that holds one of dpkg's or apt's locks.
package_lock_holder() {
  for file in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock /var/cache/apt/archives/lock; do
    inode="$(stat -c %i "$file" 2>/dev/null)" || continue
    pid="$(awk -v inode=":$inode\$" '$2 == "POSIX" && $6 ~ inode { print $5; exit }' /proc/locks)"
    [ -n "$pid" ] || continue
    printf '%s %s\n' "$pid" "$(tr '\000' ' ' <"/proc/$pid/cmdline" 2>/dev/null | cut -c 1-120)"
    return
  done
}

check_packages() {
  if ! command -v dpkg >/dev/null 2>&1; then
    verdict packages ok "no dpkg here; nothing of it to check"
    return
  fi
  holder="$(package_lock_holder)"
  if [ -n "$holder" ]; then
    verdict packages warn "the package manager is busy: process $holder holds its lock" \
      "wait until it ends; steps wait for it too, up to their limit"
    return
  fi
  # The second letter of the state is what the package is: n, c and i are settled; the third is R where it must be installed again.
  half="$(dpkg-query -W -f '${db:Status-Abbrev}|${Package}\n' 2>/dev/null |
    awk -F'|' '$1 ~ /^.[HUFWt]/ || $1 ~ /^..R/ { print $2 }' | head -n 5 | tr '\n' ' ')"
  if [ -n "$half" ]; then
    verdict packages fail "half-installed packages: $half" "sudo dpkg --configure -a && sudo apt-get --fix-broken install"
  elif [ -n "$(ls /var/lib/dpkg/updates 2>/dev/null)" ]; then
    verdict packages fail "dpkg was interrupted" "sudo dpkg --configure -a"
  else
    verdict packages ok "no package is half-installed, nobody holds dpkg's lock"
  fi
}

check_boot() {
  if [ ! -d /run/cloud-init ] && [ ! -d /var/lib/cloud/instance ]; then
    verdict boot ok "no cloud-init here"
    return
  fi
  if [ ! -f /run/cloud-init/result.json ]; then
    verdict boot warn "cloud-init has not finished: it may still install packages or reboot" "wait for it: cloud-init status --wait"
  elif tr -d ' \n' </run/cloud-init/result.json | grep -q '"errors":\["'; then
    errors="$(tr -d '\n' </run/cloud-init/result.json | sed 's/.*"errors": *\[//; s/\].*//' | cut -c 1-200)"
    verdict boot warn "cloud-init ended with errors: $errors" \
      "read /var/log/cloud-init-output.log"
  else
    verdict boot ok "cloud-init has finished"
  fi
}

check_services() {
  case "$(service_manager)" in
    supervisor)
      verdict services ok "no systemd for this user; Tandem's own supervisor runs the service, and it does not come back after a reboot"
      return
      ;;
    systemd-user) set -- --user ;;
    *) set -- ;;
  esac
  failed="$(timeout 5 systemctl "$@" list-units --state=failed --plain --no-legend 2>/dev/null | cut -d' ' -f1)"
  ours="$(printf '%s\n' "$failed" | grep '^tandem-' | paste -sd ' ' -)"
  others="$(printf '%s\n' "$failed" | grep -vE '^(tandem-|$)' | head -n 4 | paste -sd ' ' -)"
  state="$(timeout 5 systemctl "$@" is-system-running 2>/dev/null)"
  if [ -n "$ours" ]; then
    verdict services fail "failed: $ours" "read its log (tandem logs serving), then: tandem up"
  elif [ "$state" = starting ]; then
    verdict services warn "the host is still starting" "wait for it: systemctl is-system-running --wait"
  else
    verdict services ok "systemd is ${state:-there}${others:+; failed, and not ours: $others}"
  fi
}

check_lease() {
  # shellcheck source=lease-others.sh
  . "$TANDEM_SCRIPTS_DIR/lease-others.sh"
  others='' blocks='' own='not held by this stack'
  for file in "$TANDEM_HOST_DIR"/stacks/*/lease.json $(leases_of_others); do
    [ -r "$file" ] || continue
    lease_stack='' lease_owner='' lease_createdAt='' lease_exclusive=false
    eval "$(json_assignments lease_ <"$file")"
    if [ "$file" = "$TANDEM_STACK_DIR/lease.json" ]; then
      own="held by this stack since $lease_createdAt"
    else
      others="${others:+$others, }$lease_stack (by $lease_owner, since $lease_createdAt)"
      if [ "$lease_exclusive" = true ] || [ "${TANDEM_EXCLUSIVE:-false}" = true ]; then blocks="$lease_stack"; fi
    fi
  done
  if [ -n "$blocks" ]; then
    verdict lease fail "held by another stack: $others" \
      "destroy it first (tandem destroy --env $blocks), or set exclusive to false for both"
  else
    verdict lease ok "$own${others:+; shared with $others}"
  fi
}
