import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { answerOf, kill, processesWith, read, TestHost, until } from "./host";
import { PROBE_STEP } from "./probe-step";

let host: TestHost;
beforeEach(() => {
  host = new TestHost({ probe: PROBE_STEP });
});
afterEach(() => host.close());

const filesOf = (name: string) => path.join(host.stackDir, "steps/probe/files", name);
const runs = () => read(filesOf("runs")).split("\n").length - 1;
const marker = () => `marker-${path.basename(host.root)}`;

describe("work.sh apply", () => {
  it("streams progress and prints the step's result", async () => {
    const values = { TANDEM_VALUE: `it's "quoted" $(id) \\ and\nlong`, TANDEM_REPAIR: "new #1" };
    const answer = await host.run(["apply", "probe"], { values, document: { lines: 3 } });
    expect(answer).toMatchObject({ code: 0, stderr: "line 1 of 3\nline 2 of 3\nline 3 of 3\n" });
    expect(JSON.parse(answer.stdout)).toEqual({ made: true, value: values.TANDEM_VALUE });
  });

  it("passes the step's failure on", async () => {
    expect(await host.run(["apply", "probe"], { document: { fail: 31 } })).toMatchObject({ code: 31, stdout: "" });
    expect(await host.check()).toEqual([
      { step: "probe", holds: false, reason: "its last apply did not finish", token: "" },
    ]);
  });

  it("goes on when its client is killed, and the next client attaches", async () => {
    const request = { document: { lines: 8, sleep: "0.3" } };
    const first = host.start(["apply", "probe"], { ...request, values: { TANDEM_REPAIR: "first" } });
    await until("the work has begun", () => runs() === 1);
    first.kill("SIGKILL");
    const answer = await host.run(["apply", "probe"], { ...request, values: { TANDEM_REPAIR: "second" } });
    expect(answer.stderr).toMatch(/^probe: already being done, attaching\nline 1 of 8\n[^]*line 8 of 8\n$/);
    expect(answer.code).toBe(0);
    expect(runs()).toBe(1);
    expect(await host.check()).toEqual([{ step: "probe", holds: true, token: "second" }]);
  });

  it("lets two clients watch one work", async () => {
    const request = { document: { lines: 4, sleep: "0.5" } };
    const answers = await Promise.all([host.run(["apply", "probe"], request), host.run(["apply", "probe"], request)]);
    expect(answers.map(({ code }) => code)).toEqual([0, 0]);
    expect(answers[0]?.stdout).toBe(answers[1]?.stdout);
    expect(runs()).toBe(1);
  });

  it("stops the work of an earlier request, with its whole tree, before it starts another", async () => {
    const first = host.start(["apply", "probe"], { document: { lines: 100, sleep: "0.2", child: marker() } });
    const firstAnswer = answerOf(first);
    await until("the child runs", () => processesWith(marker()).length > 0);
    const second = await host.run(["apply", "probe"], { document: { lines: 1 } });
    expect(second).toMatchObject({ code: 0, stderr: "probe: stopping the work of an earlier request\nline 1 of 1\n" });
    expect(processesWith(marker())).toEqual([]);
    const stopped = await firstAnswer;
    expect(stopped.code).toBe(143);
    expect(stopped.stderr).toMatch(/stopped by a request with other values, while doing: line \d+ of 100\n$/);
  });

  it("ends a work at its limit, with all that it started, and says what it was doing", async () => {
    const document = { lines: 2, sleep: 30, child: marker() };
    const answer = await host.run(["apply", "probe"], { values: { TANDEM_TIMEOUT_SECONDS: "2" }, document });
    expect(answer.code).toBe(124);
    expect(answer.stderr).toBe("line 1 of 2\nprobe: ended at its limit of 2 s, while doing: line 1 of 2\n");
    expect(processesWith(marker())).toEqual([]);
  });

  it("says when a work was killed, and the next apply ends what that one left", async () => {
    const child = host.start(["apply", "probe"], { document: { lines: 100, sleep: "0.2", child: marker() } });
    const answer = answerOf(child);
    await until("the child runs", () => processesWith(marker()).length > 0);
    const id = path.join(
      host.stackDir,
      "steps/probe/runs",
      read(path.join(host.stackDir, "steps/probe/current")),
      "pid",
    );
    // Who starts the work writes it down after that.
    await until("it is known", () => read(id) !== "");
    kill(Number(read(id)));
    expect(await answer).toMatchObject({ code: 137, stdout: "" });
    expect((await host.run(["apply", "probe"])).code).toBe(0);
    expect(processesWith(marker())).toEqual([]);
  });

  it.each(["has ended", "was killed"])(
    "does it again after one that %s, though somebody looks just then",
    async (end) => {
      await host.run(["apply", "probe"]);
      const folder = path.join(host.stackDir, "steps/probe");
      if (end === "was killed") rmSync(path.join(folder, "runs", read(path.join(folder, "current")), "exit"));
      // Whoever looks holds the lock, and on a busy machine it takes him a while.
      const looking = spawn("flock", ["-s", path.join(folder, "work.lock"), "sh", "-c", "echo; sleep 1"]);
      await new Promise((resolve) => looking.stdout.once("data", resolve));
      const answer = await host.run(["apply", "probe"]);
      expect(answer).toMatchObject({ code: 0, stderr: "line 1 of 1\n" });
      expect(runs()).toBe(2);
    },
  );

  it.each([
    ["a stack that leads elsewhere", ["apply", "probe"], { TANDEM_STACK: "../x" }, "TANDEM_STACK is not a name"],
    ["a stack in capitals", ["check"], { TANDEM_STACK: "Prod" }, "TANDEM_STACK is not a name"],
    ["a step that leads elsewhere", ["apply", "../probe"], {}, "step is not a name"],
    ["an unknown step", ["apply", "nothing"], {}, "there is no step nothing"],
    ["an unknown verb", ["destroy"], {}, "got 'destroy' — allowed: apply STEP"],
  ])("refuses %s", async (_what, argv, environment, message) => {
    Object.assign(host.environment, environment);
    const answer = await host.run(argv);
    Object.assign(host.environment, { TANDEM_STACK: host.stack });
    expect(answer).toMatchObject({ code: 2, stderr: expect.stringContaining(message) as string });
  });

  it("refuses values that are not Tandem's", async () => {
    const answer = await host.run(["apply", "probe"], { values: { PATH: "/tmp" } });
    expect(answer).toMatchObject({ code: 2, stderr: expect.stringContaining("does not start with TANDEM_") as string });
    expect(existsSync(host.stackDir)).toBe(false);
  });

  it("refuses a folder that another could have planted", async () => {
    mkdirSync(path.join(host.root, "elsewhere"));
    mkdirSync(path.dirname(host.stackDir), { recursive: true });
    symlinkSync(path.join(host.root, "elsewhere"), host.stackDir);
    const answer = await host.run(["apply", "probe"]);
    expect(answer).toMatchObject({ code: 1, stderr: expect.stringContaining("it is a link") as string });
    expect(readdirSync(path.join(host.root, "elsewhere"))).toEqual([]);
    const sweep = await host.run(["sweep"]);
    expect(sweep).toMatchObject({ code: 1, stderr: expect.stringContaining("it is a link") as string });
    writeFileSync(path.join(host.root, "elsewhere/kept"), "");
    const { unlinkSync } = await import("node:fs");
    unlinkSync(host.stackDir);
  });
});

describe("work.sh check", () => {
  it("tells what became of a work that ends while it looks", async () => {
    await host.run(["apply", "probe"], { values: { TANDEM_REPAIR: "new" } });
    const folder = path.join(host.stackDir, "steps/probe");
    const end = path.join(folder, "runs", read(path.join(folder, "current")), "exit");
    // As it is in the middle of the work, which ends at the look whether it runs.
    rmSync(end);
    writeFileSync(path.join(folder, "state"), "begun\n");
    const bin = path.join(host.root, "bin");
    mkdirSync(bin);
    const flock = `#!/bin/sh\necho applied >"${folder}/state"\necho 0 >"${end}"\n`;
    writeFileSync(path.join(bin, "flock"), flock, { mode: 0o755 });
    const PATH = process.env["PATH"] ?? "";
    Object.assign(host.environment, { PATH: `${bin}:${PATH}` });
    const checks = await host.check();
    Object.assign(host.environment, { PATH });
    expect(checks).toEqual([{ step: "probe", holds: true, token: "new" }]);
  });
});

describe("secrets", () => {
  it("reach the step and stay out of files, command lines and environments", async () => {
    const secret = `canary-${"k".repeat(20)}-${process.pid}`;
    const child = host.start(["apply", "probe"], { document: { lines: 5, sleep: "0.2" }, secrets: { apiKey: secret } });
    const answer = answerOf(child);
    await until("the work reads its secret", () => read(filesOf("secret-digest")) !== "");
    for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid)) {
      expect(read(`/proc/${name}/cmdline`), `command line of ${name}`).not.toContain(secret);
      expect(read(`/proc/${name}/environ`), `environment of ${name}`).not.toContain(secret);
    }
    expect((await answer).code).toBe(0);
    const { createHash } = await import("node:crypto");
    const expected = createHash("sha256")
      .update(JSON.stringify({ apiKey: secret }))
      .digest("hex");
    expect(read(filesOf("secret-digest")).trim()).toBe(expected);
    for (const file of allFiles(host.hostDir)) expect(read(file), file).not.toContain(secret);
  });

  it("lie in folders and files that only this user can read", async () => {
    await host.run(["apply", "probe"]);
    for (const file of allFiles(host.hostDir)) expect(statSync(file).mode & 0o077, file).toBe(0);
    for (const folder of [host.hostDir, host.stackDir]) expect(statSync(folder).mode & 0o777).toBe(0o700);
  });

  it("of the client's own environment do not reach the work", async () => {
    Object.assign(host.environment, {
      PULUMI_CONFIG_PASSPHRASE: "passphrase-canary",
      AWS_SECRET_ACCESS_KEY: "aws-canary",
    });
    const child = host.start(["apply", "probe"], { document: { lines: 100, sleep: "0.3", child: marker() } });
    const answer = answerOf(child);
    await until("the child runs", () => processesWith(marker()).length > 0);
    for (const id of processesWith(marker())) expect(read(`/proc/${id}/environ`)).not.toMatch(/-canary/);
    await host.run(["stop"]);
    expect(await answer).toMatchObject({ code: 143 });
  });
});

function allFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));
}
