import { spawn, spawnSync } from "node:child_process";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { answerOf, TestHost } from "./host";

/** Takes every file that the disk has left, then ends as its document says. */
const TAKE_ALL = `
. "$TANDEM_SCRIPTS_DIR/common.sh"
case "$1" in
  apply)
    read_document
    number=0
    while true >"$TANDEM_STEP_DIR/$number"; do number=$((number + 1)); done 2>/dev/null
    [ -z "\${doc_fail:-}" ] || exit "$doc_fail"
    printf '{"taken":%s}\\n' "$number"
    ;;
esac
exit 0
`;
const INODES = 150;
/** Its own mounts, which go with the last of its processes. */
const APART = process.getuid?.() === 0 ? ["--mount"] : ["--mount", "--map-root-user"];
const DISK = `mkdir -p "$TANDEM_HOST_DIR" && mount -t tmpfs -o mode=700,nr_inodes=${INODES} tandem-test "$TANDEM_HOST_DIR"`;

const canMount = spawnSync("unshare", [...APART, "mount", "-t", "tmpfs", "tandem-test", "/mnt"]).status === 0;

describe.skipIf(!canMount)("a step that leaves the disk without room for another file", () => {
  let host: TestHost;
  beforeEach(() => {
    host = new TestHost({ take: TAKE_ALL });
  });
  afterEach(() => host.close());

  /** Applies the step on a disk of its own and prints what is noted of it. */
  function apply(document: object) {
    const work = path.join(host.environment["TANDEM_SCRIPTS_DIR"] ?? "", "work.sh");
    const script = `${DISK} || exit; sh '${work}' apply take; code=$?; cat "$TANDEM_HOST_DIR"/stacks/*/steps/take/state; exit $code`;
    const child = spawn("unshare", [...APART, "sh", "-c", script], { env: { ...process.env, ...host.environment } });
    child.stdin.end(`{}\n${JSON.stringify(document)}\n{}\n`);
    return answerOf(child);
  }

  it("is done, and its result is kept", async () => {
    const { code, stdout, stderr } = await apply({});
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^\{"taken":\d\d+\}\napplied\n$/);
  });

  it("says how it ended when it fails", async () => {
    const { code, stdout, stderr } = await apply({ fail: 31 });
    expect({ code, stdout }).toEqual({ code: 31, stdout: "begun\n" });
    expect(stderr).not.toContain("killed");
  });
});
