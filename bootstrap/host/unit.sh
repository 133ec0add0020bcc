# shellcheck shell=sh
# Sourced: a unit is a long-running service with its whole process tree, under systemd where it runs, else on its own.
# supervise.py runs it in both cases, so log, status and restarts are the same; systemd adds the start at boot, limits and
# its control group. A unit's folder $TANDEM_STACK_DIR/units/<unit> holds
#   unit.json     what to run: argv, env, port, stopSeconds, digest     secret.json  environment that is secret, mode 0600
#   base.json     environment of the host                               status.json  written by supervise.py
#   log, log.1    output                                                manager      systemd-system, systemd-user or supervisor
#   port          its port
# Reads: TANDEM_STACK, TANDEM_STACK_DIR, TANDEM_SCRIPTS_DIR
#        TANDEM_SERVICE_MANAGER   forces one of the three managers
# shellcheck source=port.sh
. "$TANDEM_SCRIPTS_DIR/port.sh"

unit_dir() { printf '%s/units/%s' "$TANDEM_STACK_DIR" "$1"; }

# The manager that this user gets on this host.
service_manager() {
  if [ -n "${TANDEM_SERVICE_MANAGER:-}" ]; then
    echo "$TANDEM_SERVICE_MANAGER"
  elif [ "$(id -u)" -eq 0 ] && [ -d /run/systemd/system ] && timeout 2 systemctl show-environment >/dev/null 2>&1; then
    echo systemd-system
  elif [ "$(id -u)" -ne 0 ] && [ -d /run/systemd/system ] && timeout 2 systemctl --user show-environment >/dev/null 2>&1; then
    echo systemd-user
  else
    echo supervisor
  fi
}

# systemd's name of a unit. Another host folder than the usual one gets names of its own.
unit_name() {
  case "$TANDEM_STACK_DIR" in
    /var/lib/tandem/* | "$HOME"/.local/state/tandem/*) printf 'tandem-%s-%s.service' "$TANDEM_STACK" "$1" ;;
    *) printf 'tandem-%s-%s-%s.service' "$TANDEM_STACK" "$1" "$(printf '%s' "$TANDEM_STACK_DIR" | sha256sum | cut -c 1-8)" ;;
  esac
}

# unit_systemctl UNIT VERB...
unit_systemctl() {
  unit="$1"
  shift
  case "$(cat "$(unit_dir "$unit")/manager")" in
    systemd-system) systemctl "$@" "$(unit_name "$unit")" ;;
    systemd-user) systemctl --user "$@" "$(unit_name "$unit")" ;;
  esac
}

# Reads the unit's status into $unit_state, $unit_unitId, $unit_pid, $unit_restarts, $unit_supervisorPid ...; state "stopped"
# when its supervisor is gone, whatever the file says.
unit_status() {
  # shellcheck disable=SC2034 # Read by those who source this.
  unit_state=stopped unit_unitId='' unit_pid='' unit_restarts=0 unit_supervisorPid='' unit_digest=''
  [ -f "$(unit_dir "$1")/status.json" ] || return 0
  eval "$(json_assignments unit_ <"$(unit_dir "$1")/status.json")"
  # The supervisor holds this lock as long as it lives.
  if flock -n -s "$(unit_dir "$1")/lock" true; then
    case "$unit_state" in
      failed) ;;
      *) unit_state=stopped ;;
    esac
  fi
}

# Starts the unit that unit.json describes: unit_start UNIT PYTHON
unit_start() {
  folder="$(unit_dir "$1")"
  manager="$(service_manager)"
  printf '%s' "$manager" | write_file "$folder/manager"
  # A copy: the unit outlives the version of Tandem that installed it.
  cp "$TANDEM_SCRIPTS_DIR"/supervise*.py "$folder/"
  rm -f "$folder/status.json"
  case "$manager" in
    supervisor)
      clean_unit_environment "$1" setsid "$2" -ESsB "$folder/supervise.py" "$folder" </dev/null >/dev/null 2>"$folder/supervisor.err" 9>&- &
      ;;
    systemd-system)
      systemd_unit "$1" "$2" | write_file "/etc/systemd/system/$(unit_name "$1")"
      systemctl daemon-reload
      systemctl enable --quiet "$(unit_name "$1")"
      systemctl restart "$(unit_name "$1")"
      ;;
    systemd-user)
      mkdir -p "${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user"
      systemd_unit "$1" "$2" | write_file "${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user/$(unit_name "$1")"
      # Without it the user's services end with the last session.
      loginctl enable-linger 2>/dev/null || say "can't keep services of this user running after logout (loginctl enable-linger)"
      systemctl --user daemon-reload
      systemctl --user enable --quiet "$(unit_name "$1")"
      systemctl --user restart "$(unit_name "$1")"
      ;;
    *) die 2 "TANDEM_SERVICE_MANAGER — got '$manager' — allowed: systemd-system, systemd-user, supervisor" ;;
  esac
  wait_for_status "$1"
}

# A unit belongs to no work: without this its processes would end with the work that started it.
clean_unit_environment() {
  export TANDEM_OWNER="$TANDEM_STACK/$1" TANDEM_UNIT="$1"
  shift
  unset TANDEM_WORK TANDEM_RUN_DIR TANDEM_STEP_DIR TANDEM_REQUEST
  exec "$@"
}

wait_for_status() {
  rounds=0
  until [ -f "$(unit_dir "$1")/status.json" ]; do
    rounds=$((rounds + 1))
    if [ "$rounds" -gt 100 ]; then
      die 1 "the unit $1 did not start within 10 s: $(tail -n 1 "$(unit_dir "$1")/supervisor.err" 2>/dev/null)"
    fi
    sleep 0.1
  done
}

# systemd_unit UNIT PYTHON
systemd_unit() {
  folder="$(unit_dir "$1")"
  wanted=multi-user.target limits='LimitMEMLOCK=infinity
LimitNOFILE=1048576'
  # A user's manager may not raise a limit above its own and refuses to start what asks for it; supervise.py takes what there is.
  if [ "$manager" = systemd-user ]; then wanted=default.target limits=''; fi
  cat <<UNIT
[Unit]
Description=Tandem: $1 of the stack $TANDEM_STACK
After=network.target
StartLimitIntervalSec=600
StartLimitBurst=5

[Service]
Type=exec
ExecStart="$2" -ESsB "$folder/supervise.py" "$folder"
Environment="TANDEM_OWNER=$TANDEM_STACK/$1" "TANDEM_UNIT=$1" "TANDEM_STACK_DIR=$TANDEM_STACK_DIR"
KillMode=control-group
TimeoutStopSec=90
Restart=on-failure
RestartSec=5
# supervise.py gave up on a service that keeps failing, and said so.
RestartPreventExitStatus=3
NoNewPrivileges=yes
UMask=0077
$limits

[Install]
WantedBy=$wanted
UNIT
}

# Stops the unit with its whole tree; succeeds when it does not run. Status 1 when something survives.
unit_stop() {
  folder="$(unit_dir "$1")"
  [ -d "$folder" ] || return 0
  unit_status "$1"
  case "$(cat "$folder/manager" 2>/dev/null || echo supervisor)" in
    systemd-*) unit_systemctl "$1" disable --quiet --now 2>/dev/null || : ;;
    *)
      if [ -n "$unit_supervisorPid" ] && ! flock -n -s "$folder/lock" true; then
        kill -s TERM "$unit_supervisorPid" 2>/dev/null || :
        # supervise.py kills what is left after stopSeconds.
        flock -w 90 -s "$folder/lock" true || :
      fi
      ;;
  esac
  # What escaped a killed supervisor.
  end_marked 5 "TANDEM_STACK_DIR=$TANDEM_STACK_DIR" "TANDEM_UNIT=$1"
}

# Process ids of the unit's tree, on one line. The mark tells them from the work that installs the unit.
unit_processes() { marked_processes "TANDEM_STACK_DIR=$TANDEM_STACK_DIR" "TANDEM_UNIT=$1" | tr '\n' ' '; }

# Removes a stopped unit's definition, status and logs.
unit_remove() {
  folder="$(unit_dir "$1")"
  case "$(cat "$folder/manager" 2>/dev/null || :)" in
    systemd-system)
      rm -f "/etc/systemd/system/$(unit_name "$1")"
      systemctl daemon-reload
      ;;
    systemd-user)
      rm -f "${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user/$(unit_name "$1")"
      systemctl --user daemon-reload
      ;;
  esac
  rm -rf "$folder"
}
