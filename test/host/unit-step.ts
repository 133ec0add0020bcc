/** A step that runs its document as a unit: the real unit.sh and supervise.py with a small service. */
export const UNIT_STEP = `
. "$TANDEM_SCRIPTS_DIR/common.sh"
. "$TANDEM_SCRIPTS_DIR/unit.sh"
folder="$(unit_dir svc)"
case "$1" in
  check)
    unit_status svc
    [ "$unit_state" = running ] || does_not_hold "the unit is $unit_state"
    drift="$(unit_drift svc)"
    [ -z "$drift" ] || does_not_hold "$drift"
    ;;
  apply)
    mkdir -p "$folder"
    cp "$TANDEM_REQUEST" "$folder/unit.json"
    cat >"$folder/secret.json"
    read_document
    printf '%s' "$doc_port" >"$folder/port"
    if [ -n "\${doc_wait:-}" ]; then sleep "$doc_wait"; fi
    unit_start svc "$(command -v "$TANDEM_PYTHON")"
    unit_status svc
    printf '{"state":"%s","pid":%s,"supervisorPid":%s,"keeperPid":%s}\\n' "$unit_state" "$unit_pid" "$unit_supervisorPid" "$unit_keeperPid"
    ;;
  undo) unit_stop svc && unit_remove svc ;;
esac
exit 0
`;

/** What the step prints. */
export interface Started {
  readonly state: string;
  readonly pid: number;
  readonly supervisorPid: number;
  readonly keeperPid: number;
}

/** Children of every kind: in the service's group, in a session of their own, and orphaned in one of their own. */
export const FAMILY = `sleep 600 & setsid sleep 601 & (setsid sh -c 'setsid sleep 602 & setsid sh -c "trap : TERM; while :; do sleep 1; done"' &)`;
