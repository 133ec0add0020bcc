import { existsSync, rmSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { answerOf, processesWith, read, TestHost, until } from "./host";
import { PROBE_STEP } from "./probe-step";

let host: TestHost;
beforeEach(() => {
  host = new TestHost({ probe: PROBE_STEP, later: PROBE_STEP });
});
afterEach(() => host.close());

const marker = () => `marker-${path.basename(host.root)}`;
const files = (step: string, name: string) => path.join(host.stackDir, "steps", step, "files", name);

describe("work.sh check", () => {
  it("knows nothing of a host without the stack, and leaves it so", async () => {
    expect(await host.check()).toEqual([]);
    expect(existsSync(host.hostDir)).toBe(false);
  });

  it("tells for every step whether it holds, why not, and the token of its last apply", async () => {
    await host.run(["apply", "probe"], { values: { TANDEM_REPAIR: "not applied yet #1" } });
    await host.run(["apply", "later"], { values: { TANDEM_REPAIR: "it's #2" } });
    writeFileSync(files("later", "drifted"), "");
    expect(await host.check()).toEqual([
      { step: "probe", holds: true, token: "not applied yet #1" },
      { step: "later", holds: false, reason: `it was 'changed' by "hand"`, token: "it's #2" },
    ]);
    await host.run(["apply", "later"], { values: { TANDEM_REPAIR: "changed by hand #3" } });
    expect((await host.check())[1]).toEqual({ step: "later", holds: true, token: "changed by hand #3" });
  });

  it("does not cause a change by what it can't tell", async () => {
    await host.run(["apply", "probe"], { values: { TANDEM_REPAIR: "t" } });
    writeFileSync(files("probe", "broken"), "");
    expect(await host.check()).toEqual([
      { step: "probe", holds: true, reason: "could not be checked (exit 3)", token: "t" },
    ]);
  });

  it("says that a step is being worked on", async () => {
    const answer = answerOf(host.start(["apply", "probe"], { document: { lines: 20, sleep: "0.1" } }));
    await until("the work has begun", () => existsSync(files("probe", "runs")));
    expect(await host.check()).toEqual([{ step: "probe", holds: false, reason: "it is being worked on", token: "" }]);
    await answer;
  });
});

describe("work.sh stop", () => {
  it("ends running work with its whole tree, and says what it was doing", async () => {
    const answer = answerOf(host.start(["apply", "probe"], { document: { lines: 90, sleep: "0.2", child: marker() } }));
    await until("the child runs", () => processesWith(marker()).length > 0);
    expect(await host.run(["stop"])).toMatchObject({ code: 0, stderr: "stopping probe\n" });
    expect(await answer).toMatchObject({
      code: 143,
      stderr: expect.stringContaining("stopped on request, while doing: line") as string,
    });
    expect(processesWith(marker())).toEqual([]);
  });
});

describe("work.sh undo", () => {
  it("takes back what was applied, with the values of its last apply, and can be repeated", async () => {
    await host.run(["apply", "probe"], { values: { TANDEM_VALUE: "one" } });
    await host.run(["apply", "probe"], { values: { TANDEM_VALUE: "two" } });
    expect((await host.run(["undo", "probe"], { values: { TANDEM_VALUE: "three" } })).code).toBe(0);
    expect(read(path.join(host.hostDir, "undone"))).toBe("undone two\n");
    expect(await host.check()).toEqual([]);
    expect(await host.run(["undo", "probe"])).toMatchObject({ code: 0, stderr: "probe: nothing to undo\n" });
  });

  it("stops running work first", async () => {
    const answer = answerOf(host.start(["apply", "probe"], { document: { lines: 90, sleep: "0.2", child: marker() } }));
    await until("the child runs", () => processesWith(marker()).length > 0);
    expect((await host.run(["undo", "probe"])).code).toBe(0);
    expect((await answer).code).toBe(143);
    expect(processesWith(marker())).toEqual([]);
  });
});

describe("work.sh sweep", () => {
  it("undoes every step, newest first, and leaves no folder", async () => {
    await host.run(["apply", "later"], { values: { TANDEM_VALUE: "oldest" } });
    await host.run(["apply", "probe"], { values: { TANDEM_VALUE: "newest" } });
    expect(await host.run(["sweep"])).toMatchObject({
      code: 0,
      stderr: `undoing probe\nundoing later\nnothing of the stack ${host.stack} is left on this host\n`,
    });
    expect(read(path.join(host.hostDir, "undone"))).toBe("undone newest\nundone oldest\n");
    expect(existsSync(host.stackDir)).toBe(false);
    expect((await host.run(["sweep"])).code).toBe(0);
  });

  it("takes back a step whose apply was killed before it finished", async () => {
    const child = host.start(["apply", "probe"], { document: { lines: 90, sleep: "0.2", child: marker() } });
    await until("the child runs", () => processesWith(marker()).length > 0);
    child.kill("SIGKILL");
    expect((await host.run(["sweep"])).code).toBe(0);
    expect(processesWith(marker())).toEqual([]);
    expect(existsSync(host.stackDir)).toBe(false);
  });

  it("finds a stack's processes even when its folder was removed by hand", async () => {
    const child = host.start(["apply", "probe"], { document: { lines: 90, sleep: "0.2", child: marker() } });
    await until("the child runs", () => processesWith(marker()).length > 0);
    child.kill("SIGKILL");
    rmSync(host.stackDir, { recursive: true, force: true });
    expect((await host.run(["sweep"])).code).toBe(0);
    expect(processesWith(marker())).toEqual([]);
  });

  it("leaves other stacks alone", async () => {
    await host.run(["apply", "probe"]);
    host.environment["TANDEM_STACK"] = "other";
    await host.run(["apply", "probe"]);
    expect((await host.run(["sweep"])).code).toBe(0);
    host.environment["TANDEM_STACK"] = host.stack;
    expect(await host.check()).toMatchObject([{ step: "probe", holds: true }]);
  });
});
