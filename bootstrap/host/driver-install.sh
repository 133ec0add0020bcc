# shellcheck shell=sh
# Sourced: brings the driver by apt: waits for dpkg, installs, holds, switches nouveau off. Everything is in the journal before it happens. Needs driver-packages.sh and driver-probe.sh.
# Reads: TANDEM_DPKG_LOCK_SECONDS   how long to wait for another user of dpkg, 600
#        TANDEM_SYSTEM_ROOT         where etc/ and usr/ are; empty but in tests
# shellcheck source=journal.sh
. "$TANDEM_SCRIPTS_DIR/journal.sh"
# shellcheck source=packages.sh
. "$TANDEM_SCRIPTS_DIR/packages.sh"
# shellcheck source=driver-packages.sh
. "$TANDEM_SCRIPTS_DIR/driver-packages.sh"
# shellcheck source=driver-repository.sh
. "$TANDEM_SCRIPTS_DIR/driver-repository.sh"

etc="${TANDEM_SYSTEM_ROOT:-}/etc"
NOUVEAU_FILE="$etc/modprobe.d/tandem-nouveau.conf"

# "<process id> <command>" of who holds dpkg's lock, or nothing.
dpkg_lock_holder() {
  for lock in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock; do
    [ -e "$lock" ] || continue
    pid="$(LC_ALL=C awk -v inode="$(stat -c %i "$lock")" '{ n = split($6, part, ":"); if (part[n] == inode && $5 > 0) { print $5; exit } }' /proc/locks)"
    [ -n "$pid" ] || continue
    printf '%s %s\n' "$pid" "$(tr '\000' ' ' <"/proc/$pid/cmdline" 2>/dev/null | cut -c 1-120 | sed 's/ *$//')"
    return
  done
}

wait_for_dpkg() {
  limit="${TANDEM_DPKG_LOCK_SECONDS:-600}" waited=0
  while holder="$(dpkg_lock_holder)" && [ -n "$holder" ]; do
    if [ "$waited" -ge "$limit" ]; then
      die 62 "dpkg is still in use after $limit s, by process ${holder%% *} (${holder#* }) — fix: wait for it or stop it, then run this again"
    fi
    if [ $((waited % 15)) -eq 0 ]; then say "waiting for dpkg, which process ${holder%% *} holds: ${holder#* } (up to $((limit - waited)) s more)"; fi
    sleep 1
    waited=$((waited + 1))
  done
}

require_whole_dpkg() {
  repair_dpkg
  broken="$(dpkg --audit 2>/dev/null | LC_ALL=C awk '/^ / { print $1 }' | tr '\n' ' ')"
  if [ -n "$broken" ]; then die 63 "these packages are half installed and dpkg can't finish them: $broken— fix: dpkg --configure -a says why"; fi
}

install_driver() {
  os_id="$(os_release ID)" os_version="$(os_release VERSION_ID)"
  require_installable
  wait_for_dpkg
  require_whole_dpkg
  extra_holds='' choice='' packages=''
  say "reading the package lists"
  quiet_apt update >/dev/null || die 63 "apt-get update failed — fix: apt-get update says why"
  if ! choose_from_distribution; then
    say "$choice: using NVIDIA's repository"
    if secure_boot_is_on; then
      die 65 "secure-boot: Secure Boot is on, and a module from NVIDIA's repository is built here and signed by nobody that the firmware knows — fix: use Ubuntu, whose modules are signed, or switch Secure Boot off"
    fi
    add_nvidia_repository
    choose_from_nvidia || die 64 "$choice — fix: set driver.branch to a branch that is there, or install the driver by hand"
  fi
  say "$choice"
  case "$packages" in
    *dkms* | *nvidia-headless-[0-9]*) packages="$(headers_or_die) $packages" ;;
  esac
  install_packages
  hold_packages
  switch_nouveau_off
}

os_release() { LC_ALL=C sed -n "s/^$1=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" "${TANDEM_SYSTEM_ROOT:-}/etc/os-release"; }

require_installable() {
  case "$os_id:$os_version" in
    ubuntu:22.04 | ubuntu:24.04 | debian:12 | debian:13) ;;
    *) die 64 "there is no good driver, and Tandem can't install one on ${os_id:-this system} $os_version — allowed: Ubuntu 22.04, 24.04, Debian 12, 13 — fix: install NVIDIA's driver of branch $want_branch by hand; a good one is accepted anywhere" ;;
  esac
  [ "$(id -u)" -eq 0 ] || die 64 "installing the driver needs root — fix: let the user use sudo without a password, or install the driver by hand"
}

headers_or_die() {
  kernel_header_packages ||
    die 65 "no-headers: there is no package linux-headers-$(uname -r), so the kernel module can't be built — fix: upgrade the kernel (apt-get full-upgrade), reboot, run this again"
}

install_packages() {
  # shellcheck disable=SC2086 # Names of packages are meant to be split.
  removed="$(quiet_apt -s install --no-install-recommends --allow-change-held-packages $packages 2>/dev/null |
    LC_ALL=C awk '$1 == "Remv" && $2 !~ /nvidia|cuda/ { print $2 }' | tr '\n' ' ')"
  if [ -n "$removed" ]; then die 63 "installing the driver would remove other packages: $removed— fix: install it by hand"; fi
  # shellcheck disable=SC2086
  journal_installation $packages || die 63 "apt-get can't install $packages — fix: apt-get install -s $packages says why"
  say "installing $packages"
  # shellcheck disable=SC2086
  quiet_apt install -y --no-install-recommends --allow-change-held-packages $packages >&2 || explain_failed_installation
}

explain_failed_installation() {
  log="$(find /var/lib/dkms -path '*nvidia*' -name make.log 2>/dev/null | head -n 1)"
  if [ -n "$log" ]; then
    die 65 "dkms-failed: the kernel module could not be built for $(uname -r): $(grep -m 1 -E 'error[: ]' "$log" || tail -n 1 "$log") — fix: see $log; a newer driver.branch may know this kernel"
  fi
  die 63 "apt-get could not install the driver — fix: the lines above say why; run it again when it is mended"
}

# What the driver is made of must change only together, and with a reboot.
hold_packages() {
  for package in $packages $extra_holds $(driver_packages_installed); do
    name="${package%%=*}"
    case "$name" in
      linux-headers-*) [ "${extra_holds#*"$name"}" != "$extra_holds" ] || continue ;;
    esac
    journal_add hold "$name"
    apt-mark hold "$name" >/dev/null
  done
}

# Of the driver's own version: libraries, firmware, kernel module.
driver_packages_installed() {
  # shellcheck disable=SC2016 # dpkg's own variables.
  dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' 2>/dev/null |
    LC_ALL=C awk -v version="$driver_version" '$1 == "installed" && index($3, version) && $2 ~ /nvidia|cuda|nvlsm/ { print $2 }'
}

switch_nouveau_off() {
  if [ ! -f "$NOUVEAU_FILE" ]; then
    journal_add file "$NOUVEAU_FILE"
    mkdir -p "$etc/modprobe.d"
    printf '# Written by Tandem: NVIDIA'\''s driver can not have the GPUs beside nouveau.\nblacklist nouveau\noptions nouveau modeset=0\n' | write_file "$NOUVEAU_FILE"
    chmod 644 "$NOUVEAU_FILE"
    update_initramfs
  fi
}

update_initramfs() {
  if command -v update-initramfs >/dev/null 2>&1; then update-initramfs -u >/dev/null 2>&1 || say "update-initramfs failed: nouveau may come back at the next boot"; fi
}
