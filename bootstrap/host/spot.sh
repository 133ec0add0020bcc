#!/bin/sh
# Watches on a spot machine for the notice that EC2 takes it back: then training stops with a checkpoint of every job, and the step
# holds no more, so that `tandem status` says so. Needs systemd and root, as EC2's images have them.
# Reads: TANDEM_STACK_DIR   spot/ in it keeps a copy of what the watcher needs, and notice.json once the notice has come
# Result: { watching }
# Exit status of a failed apply: 29 no Python, 34 no systemd
# shellcheck source=common.sh
. "$TANDEM_SCRIPTS_DIR/common.sh"
# shellcheck source=unit.sh
. "$TANDEM_SCRIPTS_DIR/unit.sh"
# shellcheck source=own-scripts.sh
. "$TANDEM_SCRIPTS_DIR/own-scripts.sh"

folder="$TANDEM_STACK_DIR/spot"
name="$(unit_name spot)"

check() {
  [ -f "$folder/watching" ] || does_not_hold "nothing watches for EC2's notice"
  if [ -f "$folder/notice.json" ]; then
    eval "$(json_assignments notice_ <"$folder/notice.json")"
    # shellcheck disable=SC2154 # Read from the notice.
    does_not_hold "EC2 takes this spot machine back: $notice_action at $notice_time; training was stopped with a checkpoint"
  fi
  [ "$(systemctl is-active "$name" 2>/dev/null)" = active ] || does_not_hold "the watcher $name does not run"
}

apply() {
  [ "$(service_manager)" = systemd-system ] || die 34 "a spot machine without systemd can't be watched"
  python="$(command -v python3)" || die 29 "the machine has no python3"
  private_dir "$folder"
  rm -f "$folder/notice.json"
  keep_scripts "$folder"
  stop_script | write_file "$folder/stop"
  journal_add unit "$name" system
  (umask 022 && write_file "/etc/systemd/system/$name") <<UNIT
[Unit]
Description=Tandem: waits for EC2's notice to the stack $TANDEM_STACK

[Service]
ExecStart=$python -ESsB "$folder/scripts/spot_watch.py" "$folder" /bin/sh "$folder/stop"
EnvironmentFile=-$folder/environment
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
UNIT
  systemctl daemon-reload
  systemctl enable --quiet "$name"
  systemctl restart "$name"
  echo yes | write_file "$folder/watching"
  say "watching for EC2's notice"
  printf '{"watching":true}\n'
}

stop_script() {
  scripts_environment "$folder"
  cat <<END
exec sh "\$TANDEM_SCRIPTS_DIR/training-stop.sh"
END
}

undo() {
  [ -d "$folder" ] || return 0
  systemctl disable --quiet --now "$name" 2>/dev/null || :
  rm -f "/etc/systemd/system/$name"
  systemctl daemon-reload || :
  journal_remove unit "$name"
  rm -rf "$folder"
}

answer_step "$@"
exit
