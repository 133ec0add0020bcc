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
# shellcheck source=unit-systemd.sh
. "$TANDEM_SCRIPTS_DIR/unit-systemd.sh"
# shellcheck source=container.sh
. "$TANDEM_SCRIPTS_DIR/container.sh"

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

# Reads the unit's status into $unit_state, $unit_unitId, $unit_pid, $unit_restarts, $unit_supervisorPid ...; state "stopped"
# when its supervisor is gone, whatever the file says.
unit_status() {
  folder_of_unit="$TANDEM_STACK_DIR/units/$1"
  # shellcheck disable=SC2034 # Read by those who source this.
  unit_state=stopped unit_unitId='' unit_pid='' unit_restarts=0 unit_supervisorPid='' unit_digest=''
  [ -f "$folder_of_unit/status.json" ] || return 0
  eval "$(json_assignments unit_ <"$folder_of_unit/status.json")"
  # The supervisor holds this lock as long as it lives. Opened for reading: a disk may be read-only.
  exec 4<&-
  if [ ! -f "$folder_of_unit/lock" ] || { exec 4<"$folder_of_unit/lock" && flock -n -s 4; }; then
    case "$unit_state" in
      failed) ;;
      *) unit_state=stopped ;;
    esac
  fi
  exec 4<&-
}

# Starts the unit that unit.json describes: unit_start UNIT PYTHON
unit_start() {
  folder="$(unit_dir "$1")"
  manager="$(service_manager)"
  if [ "$manager" = systemd-user ] && ! systemd_user_stays; then
    say "this host does not let this user's services outlive the session (loginctl enable-linger): $1 runs without systemd and does not start at boot"
    manager=supervisor
  fi
  printf '%s' "$manager" | write_file "$folder/manager"
  # A copy: the unit outlives the version of Tandem that installed it.
  cp "$TANDEM_SCRIPTS_DIR"/supervise*.py "$folder/"
  rm -f "$folder/status.json"
  case "$manager" in
    supervisor)
      clean_unit_environment "$1" setsid "$2" -ESsB "$folder/supervise.py" "$folder" </dev/null >/dev/null 2>"$folder/supervisor.err" 9>&- &
      ;;
    systemd-system | systemd-user) systemd_start "$1" "$2" ;;
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

# How the unit's definition differs from what was installed: see systemd_drift.
unit_drift() {
  read_line "$TANDEM_STACK_DIR/units/$1/manager"
  case "$file_line" in
    systemd-*) systemd_drift "$1" ;;
  esac
}

# Installs the definition of a unit again without touching what runs: unit_reinstall UNIT PYTHON
unit_reinstall() {
  case "$(cat "$(unit_dir "$1")/manager" 2>/dev/null)" in
    systemd-*) systemd_install "$1" "$2" ;;
  esac
}

# Stops the unit with its whole tree; succeeds when it does not run. Status 1 when something survives.
unit_stop() {
  folder="$(unit_dir "$1")"
  [ -d "$folder" ] || return 0
  unit_status "$1"
  case "$(cat "$folder/manager" 2>/dev/null || echo supervisor)" in
    systemd-*) systemd_stop "$1" ;;
    *)
      if [ -n "$unit_supervisorPid" ] && ! flock -n -s "$folder/lock" true; then
        kill -s TERM "$unit_supervisorPid" 2>/dev/null || :
        # supervise.py kills what is left after stopSeconds.
        flock -w 90 -s "$folder/lock" true || :
      fi
      ;;
  esac
  # What escaped a killed supervisor.
  container_end "$1" || return 1
  end_marked 5 "TANDEM_STACK_DIR=$TANDEM_STACK_DIR" "TANDEM_UNIT=$1"
}

# Process ids of the unit's tree, on one line. The mark tells them from the work that installs the unit.
unit_processes() { marked_processes "TANDEM_STACK_DIR=$TANDEM_STACK_DIR" "TANDEM_UNIT=$1" | tr '\n' ' '; }

# Removes a stopped unit's definition, status and logs.
unit_remove() {
  folder="$(unit_dir "$1")"
  case "$(cat "$folder/manager" 2>/dev/null || :)" in
    systemd-*) systemd_remove "$1" ;;
  esac
  rm -rf "$folder"
}

# HTTP status of /health on loopback, 000 when there is none: unit_health UNIT PORT. Hosts without curl have the unit's Python.
unit_health() {
  if command -v curl >/dev/null 2>&1; then
    curl -s -o /dev/null -m 2 -w '%{http_code}' --noproxy '*' "http://127.0.0.1:$2/health" || :
  else
    "$(cat "$(unit_dir "$1")/python")" -ESsB "$TANDEM_SCRIPTS_DIR/serving.py" health "$2"
  fi
}
