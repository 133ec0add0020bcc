import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findProcesses } from "../../cli/processes";
import { makeChangeHome, type ChangeHome, type ChangeRun } from "./fixtures/change-process";

/** Long enough to be interrupted, short enough not to matter when a test fails. */
const LONG = "echo working >&2; exec sleep 60";

describe("changing an environment with the real engine", () => {
  let home: ChangeHome;
  beforeAll(() => {
    home = makeChangeHome();
  });
  afterAll(() => home.remove());

  const workspace = (name: string) => path.join(home.folder, "home/workspace/t", name);
  const engines = () =>
    findProcesses("pulumi", "TANDEM_WORKSPACE", (folder) => folder === workspace("").replace(/\/$/, ""));

  it("keeps state, passphrase and settings for the user alone and changes no file of the user's", async () => {
    const before = readFileSync(home.settings, "utf8");
    const { status, stderr } = await home.start("up", "echo hello >&2").ended;
    expect(stderr).toMatch(/^engine: Pulumi 3\.\d+\.\d+ \(/m);
    expect(stderr).toContain("work: hello");
    expect(status).toBe(0);
    expect(readFileSync(home.settings, "utf8")).toBe(before);
    expect(statSync(path.join(home.folder, "home/passphrase")).mode & 0o777).toBe(0o600);
    expect(readFileSync(path.join(home.folder, "home/passphrase"), "utf8")).toMatch(/^[\w-]{43}$/);
    expect(readFileSync(workspace("Pulumi.t.yaml"), "utf8")).toContain("encryptionsalt:");
    expect(home.pulumiLocks()).toEqual([]);
  });

  it("leaves what did not change alone, and says so in one line", async () => {
    const { status, stdout, stderr } = await home.start("up", "echo hello >&2").ended;
    expect(status).toBe(0);
    expect((JSON.parse(stdout) as { changes: unknown[] }).changes).toEqual([]);
    expect(stderr).toContain("1 step unchanged");
  });

  it("shows a failed step by its own words, without Pulumi's or Node's noise, and names the log", async () => {
    const failing =
      "for i in $(seq 100); do echo line $i >&2; done; printf 'work failed on this machine: no disk\\n  cure: free some\\n' >&2; exit 3";
    const { status, stderr } = await home.start("up", failing).ended;
    expect(status).toBe(1);
    const told = stderr.slice(stderr.lastIndexOf("work failed on this machine"));
    expect(told).toMatch(/^work failed on this machine: no disk\n {2}cure: free some\n {2}all of it: \S+\.log\n$/);
    const log = /all of it: (\S+)/.exec(told)?.[1] ?? "";
    expect(readFileSync(log, "utf8")).toContain("line 1\n");
  });

  it("refuses a second run and names the first one's process", async () => {
    const first = home.start("up", LONG);
    await first.says("work: working");
    const second = await home.start("up").ended;
    expect(second.status).toBe(4);
    expect(second.stderr).toMatch(
      new RegExp(
        `tandem up \\(process ${first.process.pid}, since \\d\\d:\\d\\d:\\d\\d\\) changes this environment already`,
      ),
    );
    first.process.kill("SIGINT");
    const { status } = await first.ended;
    expect(status).toBe(130);
  });

  it.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)(
    "ends in order at %s: status 130, no engine, no lock",
    async (signal) => {
      const run = home.start("up", LONG);
      await run.says("work: working");
      run.process.kill(signal);
      const { status, stderr } = await run.ended;
      expect(stderr).toContain("interrupted: nothing goes on");
      expect(status).toBe(130);
      expect(engines()).toEqual([]);
      expect(home.pulumiLocks()).toEqual([]);
    },
  );

  it("is not worse off after a second Ctrl-C", async () => {
    const run = home.start("up", LONG);
    await run.says("work: working");
    run.process.kill("SIGINT");
    run.process.kill("SIGINT");
    const { status } = await run.ended;
    expect(status).toBe(130);
    expect(engines()).toEqual([]);
    expect(home.pulumiLocks()).toEqual([]);
  });

  it("goes on after kill -9 of the client in the middle of an update, and says what it cleared", async () => {
    const killed = await killInTheMiddle(home.start("up", LONG));
    const { status, stderr } = await home.start("up", "echo again >&2").ended;
    expect(stderr).toContain(`(process ${killed}) was killed: its lock is cleared`);
    expect(status).toBe(0);
    expect(engines()).toEqual([]);
  });

  it("goes on after kill -9 of client and engine, which leaves a lock and a pending operation in the state", async () => {
    const run = home.start("up", LONG);
    await run.says("work: working");
    const processes = engines();
    expect(processes).toHaveLength(1);
    run.process.kill("SIGKILL");
    for (const processId of processes) process.kill(processId, "SIGKILL");
    await run.ended;
    expect(home.pulumiLocks()).toHaveLength(1);
    const { status, stderr } = await home.start("up", "echo once more >&2").ended;
    expect(stderr).toContain(`the state was locked by process ${processes[0]}`);
    expect(stderr).toMatch(/unfinished in the state: updating \S*t-work — cleared/);
    expect(status).toBe(0);
  });

  it("names file and remedy for a wrong passphrase, and loses nothing", async () => {
    const state = readFileSync(path.join(home.folder, "home/backend/.pulumi/stacks/tandem/t.json"), "utf8");
    const { status, stderr } = await home.start("up", "true", { PULUMI_CONFIG_PASSPHRASE: "not this" }).ended;
    expect(stderr).toContain("does not fit this environment's secrets — it came from PULUMI_CONFIG_PASSPHRASE");
    expect(status).toBe(2);
    expect(readFileSync(path.join(home.folder, "home/backend/.pulumi/stacks/tandem/t.json"), "utf8")).toBe(state);
  });

  it("does not make a new passphrase in place of a lost one", async () => {
    const file = path.join(home.folder, "home/passphrase");
    const passphrase = readFileSync(file, "utf8");
    rmSync(file);
    const { status, stderr } = await home.start("up").ended;
    writeFileSync(file, passphrase, { mode: 0o600 });
    expect(stderr).toContain(`the passphrase file is gone: ${file}`);
    expect(status).toBe(2);
  });

  async function killInTheMiddle(run: ChangeRun): Promise<number | undefined> {
    await run.says("work: working");
    run.process.kill("SIGKILL");
    await run.ended;
    return run.process.pid;
  }
});
