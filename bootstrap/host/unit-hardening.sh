# shellcheck shell=sh
# Sourced by unit-systemd.sh: what a unit may not do, as lines of its [Service] section. A user's manager has no right to most of it.
# What would take the GPUs away is left out on purpose: PrivateDevices=, and ProtectClock=, which closes every other device too.

# systemd_hardening UNIT SCOPE
systemd_hardening() {
  [ "$2" = system ] || return 0
  # A container's engine makes namespaces, mounts and devices; what is in the container has limits of its own.
  if grep -q supervise_container "$(unit_dir "$1")/unit.json"; then return 0; fi
  cat <<'LINES'
ProtectKernelTunables=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
LockPersonality=yes
SystemCallArchitectures=native
LINES
  # Models, runtimes and the stack itself may be there where somebody tries things out.
  case "$TANDEM_STACK_DIR$(cat "$(unit_dir "$1")/unit.json")" in
    */tmp/*) ;;
    *) echo PrivateTmp=yes ;;
  esac
  if [ "$1" = gateway ]; then
    gateway_hardening
  else
    # nvidia-modprobe may still load a module for the first program on the GPUs.
    echo ProtectSystem=full
    echo 'CapabilityBoundingSet=~CAP_SYS_TIME CAP_SYS_BOOT CAP_SYSLOG CAP_SYS_PACCT CAP_SYS_TTY_CONFIG CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_LINUX_IMMUTABLE CAP_LEASE CAP_MKNOD'
  fi
}

# It talks to strangers: it may hand its rights to a user without any, bind a low port, and write its log.
gateway_hardening() {
  cat <<LINES
ProtectSystem=strict
ReadWritePaths="$TANDEM_STACK_DIR"
ProtectHome=read-only
ProtectKernelModules=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_SETUID CAP_SETGID CAP_KILL CAP_NET_BIND_SERVICE
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
LINES
}
