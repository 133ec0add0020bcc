#!/bin/sh
# Ends the stack on this host when its time is over, whatever became of the client: a timer of the host's own that sweeps it.
# The time counts by this host's clock and by the time that has passed, see expiry-tick.sh.
# Reads: TANDEM_REQUEST   { ttlSeconds }   from the first apply on; another one moves the end, from the same start
# Keeps in $TANDEM_STACK_DIR/expiry: what expiry-tick.sh reads, started, ttl, manager, scripts (a copy: the end comes without the
#        client), and loop.pid where there is no systemd; then nothing starts it again at boot
# Result: { expiresAt }
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=unit.sh
. "$TANDEM_SCRIPTS_DIR/unit.sh"
# shellcheck source=own-scripts.sh
. "$TANDEM_SCRIPTS_DIR/own-scripts.sh"

folder="$TANDEM_STACK_DIR/expiry"
name="$(unit_name expiry)"
name="${name%.service}"
LOOK_SECONDS=15

check() {
  [ -f "$folder/expires" ] || does_not_hold "no timer ends the stack on this host"
  if [ ! -f "$folder/lifetime" ] || [ ! -f "$folder/end" ]; then does_not_hold "the timer's folder $folder is damaged"; fi
  case "$(cat "$folder/manager" 2>/dev/null)" in
    systemd-*) [ "$(systemctl "--$(expiry_scope)" is-active "$name.timer" 2>/dev/null)" = active ] || does_not_hold "the timer $name.timer does not run" ;;
    *) loop_runs || does_not_hold "nothing looks whether the time is over" ;;
  esac
}

apply() {
  read_document
  # shellcheck disable=SC2154 # Read from the document.
  ttl="$doc_ttlSeconds"
  mkdir -p "$folder"
  if [ ! -f "$folder/started" ]; then date +%s | write_file "$folder/started"; fi
  if [ "$(cat "$folder/ttl" 2>/dev/null)" != "$ttl" ] || [ ! -f "$folder/expires" ]; then
    echo "$ttl" | write_file "$folder/lifetime"
    echo $(($(cat "$folder/started") + ttl)) | write_file "$folder/expires"
    echo "$ttl" | write_file "$folder/ttl"
  fi
  keep_scripts "$folder"
  end_script | write_file "$folder/end"
  arm
  say "the stack ends on this host at $(at "$(cat "$folder/expires")")"
  printf '{"expiresAt":"%s"}\n' "$(at "$(cat "$folder/expires")")"
}

# RFC 3339 of seconds since 1970.
at() { date -u -d "@$1" +%Y-%m-%dT%H:%M:%SZ; }

end_script() {
  scripts_environment "$folder"
  cat <<END
# What can't be taken back now is tried again: the timer itself goes with the first try.
until sh "\$TANDEM_SCRIPTS_DIR/work.sh" sweep || [ ! -d $(quoted "$folder") ]; do sleep 60; done
END
}

expiry_scope() {
  case "$(cat "$folder/manager" 2>/dev/null)" in
    systemd-user) echo user ;;
    *) echo system ;;
  esac
}

arm() {
  manager="$(service_manager)"
  if [ "$manager" = systemd-user ] && ! systemd_user_stays; then manager=supervisor; fi
  printf '%s' "$manager" | write_file "$folder/manager"
  case "$manager" in
    systemd-*) arm_systemd ;;
    *) arm_loop ;;
  esac
}

arm_systemd() {
  scope="$(expiry_scope)" units="$(systemd_folder "$(expiry_scope)")"
  if [ "$scope" = user ]; then systemd_user_folders "$units"; fi
  # The service is no unit in the journal: taking a unit back stops it, and this one is what takes back.
  journal_add file "$units/$name.service"
  journal_add unit "$name.timer" "$scope"
  (umask 022 && write_file "$units/$name.service") <<UNIT
[Unit]
Description=Tandem: ends the stack $TANDEM_STACK when its time is over

[Service]
Type=oneshot
ExecStart=/bin/sh "$folder/scripts/expiry-tick.sh" "$folder"
UNIT
  (umask 022 && write_file "$units/$name.timer") <<UNIT
[Unit]
Description=Tandem: looks whether the time of the stack $TANDEM_STACK is over

[Timer]
OnActiveSec=1s
OnBootSec=1s
OnUnitInactiveSec=${LOOK_SECONDS}s
AccuracySec=1s

[Install]
WantedBy=timers.target
UNIT
  systemctl "--$scope" daemon-reload
  systemctl "--$scope" enable --quiet "$name.timer"
  systemctl "--$scope" restart "$name.timer"
}

loop_runs() {
  [ -f "$folder/loop.pid" ] && read -r pid <"$folder/loop.pid" || return 1
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$folder loop"
}

arm_loop() {
  stop_loop
  # It bears no mark of the stack: a sweep ends what does, and this is who sweeps.
  (
    unset TANDEM_OWNER TANDEM_WORK TANDEM_UNIT TANDEM_RUN_DIR TANDEM_STEP_DIR TANDEM_REQUEST TANDEM_STACK_DIR TANDEM_STACK
    exec setsid sh "$folder/scripts/expiry-tick.sh" "$folder" loop
  ) </dev/null >/dev/null 2>&1 8>&- 9>&- &
  echo "$!" | write_file "$folder/loop.pid"
  # Until it is a program of its own it bears the work's mark, and a work that is done ends all that bears its mark.
  rounds=0
  until loop_runs; do
    rounds=$((rounds + 1))
    [ "$rounds" -le 200 ] || die 1 "nothing looks whether the time is over: the timer did not start within 10 s"
    sleep 0.05
  done
}

stop_loop() {
  # With what it waits in.
  if loop_runs; then kill -TERM "-$pid" 2>/dev/null || :; fi
}

undo() {
  [ -d "$folder" ] || return 0
  # Whoever sweeps because the time is over must not be stopped by its own hand; it finds its folder gone and ends.
  if [ ! -e "$folder/ending" ]; then stop_loop; fi
  case "$(cat "$folder/manager" 2>/dev/null)" in
    systemd-*)
      units="$(systemd_folder "$(expiry_scope)")" scope="$(expiry_scope)"
      systemctl "--$scope" disable --quiet --now "$name.timer" 2>/dev/null || :
      rm -f "$units/$name.timer" "$units/$name.service"
      systemctl "--$scope" daemon-reload 2>/dev/null || :
      ;;
  esac
  rm -f "$folder/expires" "$folder/lifetime" "$folder/loop.pid" "$folder/started" "$folder/ttl" "$folder/used"
  if [ ! -e "$folder/ending" ]; then rm -rf "$folder"; fi
}

answer_step "$@"
exit
