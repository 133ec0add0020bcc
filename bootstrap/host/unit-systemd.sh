# shellcheck shell=sh
# Sourced by unit.sh: a unit under systemd, as root's system service or as a service of the user's own manager.
# In the unit's folder:  systemd.service  what was installed
# Reads: unit_after   other units of the stack that are started before this one and stopped after it, e.g. "serving"
#        unit_mounts  a folder whose file system has to be there first
# shellcheck source=journal.sh
. "$TANDEM_SCRIPTS_DIR/journal.sh"
# shellcheck source=unit-hardening.sh
. "$TANDEM_SCRIPTS_DIR/unit-hardening.sh"

# systemd's name of a unit. Another host folder than the usual one gets names of its own.
unit_name() {
  case "$TANDEM_STACK_DIR" in
    /var/lib/tandem/* | "$HOME"/.local/state/tandem/*) printf 'tandem-%s-%s.service' "$TANDEM_STACK" "$1" ;;
    *) printf 'tandem-%s-%s-%s.service' "$TANDEM_STACK" "$1" "$(printf '%s' "$TANDEM_STACK_DIR" | sha256sum | cut -c 1-8)" ;;
  esac
}

# unit_systemctl UNIT VERB...
unit_systemctl() {
  unit_called="$(unit_name "$1")" unit_scope="$(unit_scope "$1")"
  shift
  systemctl "--$unit_scope" "$@" "$unit_called"
}

# Which manager has the unit: system or user.
unit_scope() {
  read_line "$TANDEM_STACK_DIR/units/$1/manager"
  # shellcheck disable=SC2154 # read_line sets it.
  case "$file_line" in
    systemd-user) echo user ;;
    *) echo system ;;
  esac
}

# Where a manager's unit files lie: systemd_folder system | user
systemd_folder() {
  case "$1" in
    user) printf '%s/systemd/user' "${XDG_CONFIG_HOME:-$HOME/.config}" ;;
    *) echo /etc/systemd/system ;;
  esac
}

# Installs the unit's definition and has it start at boot, changing nothing that runs: systemd_install UNIT PYTHON [OPTION]
systemd_install() {
  scope="$(unit_scope "$1")" called="$(unit_name "$1")"
  folder_of_units="$(systemd_folder "$scope")"
  if [ "$scope" = user ]; then systemd_user_folders "$folder_of_units"; fi
  journal_add unit "$called" "$scope"
  systemd_unit "$1" "$2" "$scope" | write_file "$(unit_dir "$1")/systemd.service"
  # Units are for everybody to read; this script's files are not.
  (umask 022 && write_file "$folder_of_units/$called") <"$(unit_dir "$1")/systemd.service"
  # What somebody put beside it would change it.
  rm -rf "${folder_of_units:?}/$called.d"
  # It has the manager read its unit files again, too, unless the option says that it needs not.
  systemctl "--$scope" enable --quiet ${3:+"$3"} "$called"
}

# Whether this user's services outlive the user's last session; asks for it where they don't yet.
systemd_user_stays() {
  if [ -e "/var/lib/systemd/linger/$(id -un)" ]; then return 0; fi
  journal_add user "$(id -un)" linger
  if loginctl enable-linger 2>/dev/null; then return 0; fi
  journal_remove user "$(id -un)"
  return 1
}

# Folders that the user's home may lack go again when they are empty.
systemd_user_folders() {
  for missing in "${1%/systemd/user}" "${1%/user}" "$1" "$1/default.target.wants"; do
    journal_add dir "$missing"
    [ -d "$missing" ] || mkdir "$missing"
  done
}

systemd_start() {
  if [ "$(unit_systemctl "$1" show -p LoadState --value 2>/dev/null)" = not-found ]; then
    # The manager reads what it does not know when that starts; to read all again takes it a sixth of a second.
    systemd_install "$1" "$2" --no-reload
    if unit_systemctl "$1" start 2>/dev/null; then return; fi
  fi
  systemd_install "$1" "$2"
  # Whoever failed too often before is not held against this start.
  unit_systemctl "$1" stop
  unit_systemctl "$1" reset-failed 2>/dev/null || :
  # The last word of the one before must not be taken for the first one of this.
  rm -f "$(unit_dir "$1")/status.json"
  unit_systemctl "$1" start
}

# Also when its file was removed by hand: then `disable` alone would refuse and stop nothing.
systemd_stop() {
  unit_systemctl "$1" stop 2>/dev/null || :
  unit_systemctl "$1" disable --quiet 2>/dev/null || :
  unit_systemctl "$1" reset-failed 2>/dev/null || :
}

systemd_remove() {
  scope="$(unit_scope "$1")" called="$(unit_name "$1")"
  folder_of_units="$(systemd_folder "$scope")"
  rm -f "$folder_of_units/$called" "$folder_of_units"/*.wants/"$called"
  rm -rf "${folder_of_units:?}/$called.d"
  systemctl "--$scope" daemon-reload 2>/dev/null || :
  journal_remove unit "$called"
}

# Prints how the unit's definition differs from what was installed, and "restart" first where a running service may have been
# started with the difference; nothing when it is as it was. systemd_drift UNIT
systemd_drift() {
  called="$(unit_name "$1")" scope="$(unit_scope "$1")"
  installed="$(systemd_folder "$scope")/$called"
  if [ ! -f "$installed" ]; then
    echo "its systemd unit file $installed was removed"
  elif ! cmp -s "$installed" "$TANDEM_STACK_DIR/units/$1/systemd.service"; then
    echo "restart its systemd unit file $installed was changed"
  else
    shown="$(systemctl "--$scope" show -p UnitFileState -p DropInPaths "$called" 2>/dev/null)" || return 0
    case "$shown" in
      *"DropInPaths="[!\ ]*"/$called.d/"*) echo "restart systemd changes it by $(printf '%s\n' "$shown" | sed -n 's/^DropInPaths=//p')" ;;
      *UnitFileState=enabled*) ;;
      *) echo "it does not start at boot any more (systemd says $(printf '%s\n' "$shown" | sed -n 's/^UnitFileState=//p'))" ;;
    esac
  fi
}

# systemd_unit UNIT PYTHON SCOPE
systemd_unit() {
  after='network.target nvidia-persistenced.service nvidia-fabricmanager.service'
  for earlier in ${unit_after:-}; do after="$after $(unit_name "$earlier")"; done
  defined_stopSeconds=30 defined_gainsPrivileges=false
  eval "$(json_assignments defined_ <"$(unit_dir "$1")/unit.json")"
  mounts=''
  if [ -n "${unit_mounts:-}" ]; then mounts="RequiresMountsFor=$unit_mounts"; fi
  wanted=multi-user.target limits='LimitMEMLOCK=infinity
LimitNOFILE=1048576'
  # A user's manager may not raise a limit above its own; supervise.py takes what there is.
  if [ "$3" = user ]; then wanted=default.target limits=''; fi
  hardening="$(systemd_hardening "$1" "$3")"
  privileges='NoNewPrivileges=yes'
  if [ "${defined_gainsPrivileges:-}" = true ]; then privileges=''; fi
  cat <<UNIT
[Unit]
Description=Tandem: $1 of the stack $TANDEM_STACK
After=$after
StartLimitIntervalSec=600
StartLimitBurst=5
$mounts

[Service]
Type=exec
ExecStart="$2" -ESsB "$(unit_dir "$1")/supervise.py" "$(unit_dir "$1")"
Environment="TANDEM_OWNER=$TANDEM_STACK/$1" "TANDEM_UNIT=$1" "TANDEM_STACK_DIR=$TANDEM_STACK_DIR"
KillMode=control-group
# Longer than supervise.py needs for it; also the time that the tree of a killed supervisor gets to end by itself.
TimeoutStopSec=$((${defined_stopSeconds%.*} + 10))
Restart=on-failure
RestartSec=5
# supervise.py gave up on a service that keeps failing, and said so.
RestartPreventExitStatus=3
$privileges
UMask=0077
$limits
$hardening

[Install]
WantedBy=$wanted
UNIT
}
