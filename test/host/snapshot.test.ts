import { execFileSync } from "node:child_process";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { TestHost } from "./host";

/** Debian's `nobody`: root may read everything. */
const NOBODY = 65534;
const LOOK = '. "$TANDEM_SCRIPTS_DIR/common.sh"\n. "$TANDEM_SCRIPTS_DIR/snapshot.sh"\nsnapshot_now\n';

describe("the look at a host before and after", () => {
  let host: TestHost;
  beforeEach(() => {
    host = new TestHost({ look: LOOK }, {}, process.getuid?.() === 0 ? NOBODY : undefined);
  });
  afterEach(() => host.close());

  /** Makes the user's own units by shell commands in their folder. */
  function makeUnits(commands: string): void {
    const home = path.join(host.root, "home");
    const script = `mkdir -p .config/systemd/user && (cd .config/systemd && ${commands}) && chown -R --reference=. .config`;
    execFileSync("sh", ["-c", script], { cwd: home });
  }

  it("leaves out a folder of units that can't be read, and nothing else", async () => {
    makeUnits("touch user/mine.service && mkdir -m 000 user/mine.service.d");
    const { code, stdout } = await host.run([], {}, "look.sh");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^unit\tuser\/mine\.service\tf/m);
    const kinds = new Set(stdout.split("\n").map((line) => line.split("\t")[0]));
    for (const kind of ["user", "group", "etc", "mount"]) expect(kinds).toContain(kind);
  });

  it("sees the units in a folder that is a link", async () => {
    makeUnits("mkdir elsewhere && touch elsewhere/linked.service && ln -s elsewhere system");
    expect((await host.run([], {}, "look.sh")).stdout).toMatch(/^unit\tsystem\/linked\.service\tf/m);
  });
});
