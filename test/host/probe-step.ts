/**
 * A step of the tests: real work of the real `work.sh`, doing what its document says.
 * `{ "lines": n, "sleep": seconds, "fail": status, "child": marker }`; `child` starts a process that detaches itself.
 */
export const PROBE_STEP = `
. "$TANDEM_SCRIPTS_DIR/common.sh"
case "$1" in
  check)
    [ -f "$TANDEM_STEP_DIR/made" ] || does_not_hold "nothing was made"
    [ ! -f "$TANDEM_STEP_DIR/drifted" ] || does_not_hold "it was 'changed' by \\"hand\\""
    [ ! -f "$TANDEM_STEP_DIR/broken" ] || exit 3
    ;;
  apply)
    read_document
    IFS= read -r secret || :
    printf '%s' "$secret" | sha256sum | cut -d' ' -f1 >"$TANDEM_STEP_DIR/secret-digest"
    echo run >>"$TANDEM_STEP_DIR/runs"
    rm -f "$TANDEM_STEP_DIR/drifted"
    if [ -n "\${doc_child:-}" ]; then setsid sh -c "sleep 600; : $doc_child" >/dev/null 2>&1 & fi
    line=1
    while [ "$line" -le "\${doc_lines:-1}" ]; do
      say "line $line of \${doc_lines:-1}"
      sleep "\${doc_sleep:-0}"
      line=$((line + 1))
    done
    [ -z "\${doc_fail:-}" ] || exit "$doc_fail"
    : >"$TANDEM_STEP_DIR/made"
    printf '{"made":%s,"value":%s}\\n' true "$(json_string "\${TANDEM_VALUE:-none}")"
    ;;
  undo)
    echo "undone \${TANDEM_VALUE:-}" >>"$TANDEM_HOST_DIR/undone"
    rm -f "$TANDEM_STEP_DIR/made"
    ;;
esac
exit 0
`;
