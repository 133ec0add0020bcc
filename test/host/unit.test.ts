import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import * as path from "node:path";
import { execFileSync } from "node:child_process";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { freePort } from "../fixtures/free-port";
import { kill, processesWith, read, TestHost, until } from "./host";
import { FAMILY, type Started, UNIT_STEP } from "./unit-step";

let host: TestHost;
let marker: string;
beforeEach(() => {
  host = new TestHost({ svc: UNIT_STEP });
  marker = `marker-${path.basename(host.root)}`;
});
afterEach(() => host.close());

const folder = () => path.join(host.stackDir, "units/svc");
const status = () => JSON.parse(readFileSync(path.join(folder(), "status.json"), "utf8")) as Record<string, unknown>;
const log = () => read(path.join(folder(), "log"));

async function start(script: string, more: Record<string, unknown> = {}, python = "python3"): Promise<Started> {
  const document = {
    argv: ["/bin/sh", "-c", `: ${marker}; ${script}`],
    env: { PATH: process.env["PATH"] },
    port: 0,
    stopSeconds: 1,
    ...more,
  };
  const answer = await host.run(["apply", "svc"], {
    document,
    values: { TANDEM_PYTHON: python },
    secrets: { SECRET: "canary-in-unit" },
  });
  expect(answer).toMatchObject({ code: 0 });
  return JSON.parse(answer.stdout) as Started;
}

/** Every process of the stack, by the mark in its environment. */
function stackProcesses(): number[] {
  const mark = `TANDEM_STACK_DIR=${host.stackDir}`;
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && read(`/proc/${name}/environ`).split("\0").includes(mark))
    .map(Number);
}

describe("a unit", () => {
  it("survives the work that started it and keeps what it prints in its log", async () => {
    const { pid } = await start("echo hello; exec sleep 600");
    await until("the log has it", () => log().includes("hello"));
    expect(statSync(`/proc/${pid}`).isDirectory()).toBe(true);
    expect(await host.check()).toMatchObject([{ step: "svc", holds: true }]);
    expect((await host.run(["logs", "svc"])).stdout).toContain("hello");
  });

  it("is marked as the stack's, also when its processes rename themselves", async () => {
    const { pid } = await start("exec sleep 600");
    const environment = read(`/proc/${pid}/environ`).split("\0");
    expect(environment).toContain(`TANDEM_OWNER=${host.stack}/svc`);
    expect(environment).toContain("SPT_NOENV=1");
    expect(environment.filter((line) => line.startsWith("TANDEM_WORK"))).toEqual([]);
  });

  it("takes its whole tree along when it is stopped, also what detached itself or ignores SIGTERM", async () => {
    await start(`${FAMILY}; exec sleep 600`);
    await until("the family is there", () => stackProcesses().length >= 7);
    expect((await host.run(["undo", "svc"])).code).toBe(0);
    expect(stackProcesses()).toEqual([]);
    expect(existsSync(folder())).toBe(false);
  });

  it("takes its whole tree along when its supervisor is killed", async () => {
    const { supervisorPid } = await start(`${FAMILY}; exec sleep 600`);
    await until("the family is there", () => stackProcesses().length >= 7);
    kill(supervisorPid);
    await until("all are gone", () => stackProcesses().length === 0);
    expect(await host.check()).toMatchObject([{ holds: false, reason: "the unit is stopped" }]);
  });

  it("takes its whole tree along when its keeper is killed, and starts again", async () => {
    const { keeperPid, pid } = await start(`${FAMILY}; exec sleep 600`, { backoffSeconds: [0.1] });
    await until("the family is there", () => stackProcesses().length >= 7);
    const before = stackProcesses();
    kill(keeperPid);
    await until("it runs again", () => status()["restarts"] === 1 && status()["state"] === "running");
    expect(status()["pid"]).not.toBe(pid);
    expect(stackProcesses().filter((id) => before.includes(id))).toEqual([Number(status()["supervisorPid"])]);
  });

  it("leaves nothing after a sweep even when supervisor and keeper are killed in one blow", async () => {
    const port = await freePort();
    const { keeperPid, supervisorPid } = await start(
      `${FAMILY}; exec python3 -m http.server --bind 127.0.0.1 ${port}`,
      { port },
    );
    await until("the family is there", () => stackProcesses().length >= 7);
    kill(supervisorPid);
    kill(keeperPid);
    expect((await host.run(["sweep"])).code).toBe(0);
    expect(stackProcesses()).toEqual([]);
    expect(processesWith(marker)).toEqual([]);
    expect(existsSync(host.stackDir)).toBe(false);
    const { createServer } = await import("node:net");
    const server = createServer().listen(port, "127.0.0.1");
    await new Promise((resolve, reject) => server.once("listening", resolve).once("error", reject));
    server.close();
  });

  it("starts again after a crash, with another id", async () => {
    const { pid } = await start("exec sleep 600", { backoffSeconds: [0.1] });
    const { unitId } = status();
    kill(pid);
    await until("it runs again", () => status()["restarts"] === 1 && status()["state"] === "running");
    expect(status()["unitId"]).not.toBe(unitId);
    expect(log()).toContain("the service was killed by signal 9 (SIGKILL); starting it again in 0.1 s");
  });

  it("is given up after five failures in a row, and says so", async () => {
    await start("echo try; exit 7", { backoffSeconds: [0.05] });
    await until("it is given up", () => status()["state"] === "failed");
    expect(log().match(/^try$/gm)).toHaveLength(5);
    expect(log()).toContain("gave up after 5 failures in a row; the last ended with status 7");
    expect(await host.check()).toMatchObject([{ holds: false, reason: "the unit is failed" }]);
  });

  it("says why a program can't be started", async () => {
    await start("true", { argv: ["/nonexistent/python"], backoffSeconds: [0.05] });
    await until("it is given up", () => status()["state"] === "failed");
    expect(log()).toContain("tandem: can't start /nonexistent/python: [Errno 2] No such file or directory");
  });

  it("caps its log at two files", async () => {
    await start("while :; do echo 0123456789012345678901234567890123456789; done", { logLimitBytes: 100_000 });
    await until("the log was turned over", () => existsSync(path.join(folder(), "log.1")));
    for (const name of ["log", "log.1"]) {
      // While it is turned over, the newer file is away for a moment.
      let size: number | undefined;
      await until(
        `${name} is there`,
        () => (size = statSync(path.join(folder(), name), { throwIfNoEntry: false })?.size) !== undefined,
      );
      expect(size).toBeLessThanOrEqual(100_000);
    }
  });

  it("gets its secrets by its environment, from a file of its user's own", async () => {
    const { pid } = await start(`exec sleep 600`);
    expect(read(`/proc/${pid}/environ`)).toContain("SECRET=canary-in-unit");
    for (const id of stackProcesses()) expect(read(`/proc/${id}/cmdline`)).not.toContain("canary-in-unit");
    expect(log()).not.toContain("canary-in-unit");
    for (const name of readdirSync(folder())) expect(statSync(path.join(folder(), name)).mode & 0o077, name).toBe(0);
  });

  it("is refused a second supervisor", async () => {
    const { supervisorPid } = await start("exec sleep 600");
    const script = path.join(folder(), "supervise.py");
    const environment = { ...process.env, TANDEM_OWNER: "x/svc", TANDEM_STACK_DIR: host.stackDir, TANDEM_UNIT: "svc" };
    expect(() => execFileSync("python3", [script, folder()], { env: environment, stdio: "pipe" })).toThrow(/in use/);
    expect(status()["supervisorPid"]).toBe(supervisorPid);
  });

  const oldest = oldestPython();
  it.skipIf(oldest === undefined)("runs under Python 3.9", async () => {
    const { pid } = await start("exec sleep 600", {}, oldest);
    expect(statSync(`/proc/${pid}`).isDirectory()).toBe(true);
    expect((await host.run(["undo", "svc"])).code).toBe(0);
    expect(stackProcesses()).toEqual([]);
  });
});

/** A real Python 3.9: on PATH or in pyenv. A shim that only says how to select one does not count. */
function oldestPython(): string | undefined {
  const versions = path.join(process.env["HOME"] ?? "", ".pyenv/versions");
  const inPyenv = existsSync(versions) ? readdirSync(versions).filter((name) => name.startsWith("3.9.")) : [];
  const candidates = [...inPyenv.map((name) => path.join(versions, name, "bin/python3.9")), "/usr/bin/python3.9"];
  return candidates.find((candidate) => existsSync(candidate));
}
