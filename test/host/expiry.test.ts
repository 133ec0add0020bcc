import { execFileSync, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { userData } from "../../bootstrap/cloud/user-data";
import { HOST_SCRIPTS, processesWith, TestHost, until } from "./host";

describe("a stack with a limited time on a host", () => {
  let host: TestHost;
  beforeEach(() => {
    host = new TestHost();
  });
  afterEach(() => host.close());

  const expiry = (name: string) => path.join(host.stackDir, "expiry", name);
  const apply = (ttlSeconds: number) =>
    host.run(["apply", "expiry"], { document: { ttlSeconds }, values: { TANDEM_REPAIR: "#1" } });

  it("is swept from the host by the host itself when the time is over", async () => {
    await host.run(["apply", "lease"]);
    // Longer than the step takes on a busy machine.
    const { stdout, stderr } = await apply(8);
    expect(JSON.parse(stdout), stderr).toEqual({ expiresAt: expect.stringMatching(/^\d{4}-.*Z$/) as string });
    expect(existsSync(host.stackDir)).toBe(true);
    await until("the stack is gone", () => !existsSync(host.hostDir), 40);
    await until("nobody looks any more", () => processesWith(`${expiry("")} loop`).length === 0);
  });

  it("keeps its end when the step is applied again, and moves it from the same start with another time", async () => {
    await host.run(["apply", "lease"]);
    await apply(3600);
    const ends = Number(readFileSync(expiry("expires"), "utf8"));
    const started = Number(readFileSync(expiry("started"), "utf8"));
    expect(ends - started).toBe(3600);
    writeFileSync(expiry("started"), `${started - 100}\n`);
    await apply(3600);
    expect(Number(readFileSync(expiry("expires"), "utf8"))).toBe(ends);
    await apply(7200);
    expect(Number(readFileSync(expiry("expires"), "utf8"))).toBe(started - 100 + 7200);
    expect(await host.check()).toMatchObject([{ step: "lease" }, { step: "expiry", holds: true }]);
  });

  it("does not hold when nobody looks at the clock any more, and leaves no process when it is undone", async () => {
    await apply(3600);
    const looking = processesWith(`${path.join(host.stackDir, "expiry")} loop`);
    expect(looking).toHaveLength(1);
    process.kill(-(looking[0] ?? 0));
    await until("it is gone", () => processesWith(`${path.join(host.stackDir, "expiry")} loop`).length === 0);
    expect(await host.check()).toMatchObject([{ holds: false, reason: "nothing looks whether the time is over" }]);
    await apply(3600);
    expect(await host.check()).toMatchObject([{ holds: true }]);
    expect((await host.run(["undo", "expiry"])).code).toBe(0);
    expect(processesWith(`${path.join(host.stackDir, "expiry")} loop`)).toEqual([]);
    expect(existsSync(expiry(""))).toBe(false);
  });

  it("is looked after by a timer that was slow to start: the end of the work that starts it does not end it", async () => {
    host.environment["PATH"] = pathThatFindsLate("setsid", path.join(host.root, "programs"));
    await apply(3600);
    expect(await host.check()).toMatchObject([{ step: "expiry", holds: true }]);
  });

  it("is extended from now on, never shortened, and not once it is over", async () => {
    await apply(3600);
    const started = Number(readFileSync(expiry("started"), "utf8"));
    const extend = (seconds: number) => {
      host.environment["TANDEM_TTL_SECONDS"] = String(seconds);
      host.environment["TANDEM_MACHINE_EXPIRY"] = path.join(host.root, "no-machine");
      return host.run([], {}, "expiry-extend.sh");
    };
    const { stdout } = await extend(7200);
    const end = Date.parse(stdout.trim()) / 1000;
    expect(end - started).toBeGreaterThanOrEqual(7200);
    expect(Number(readFileSync(expiry("lifetime"), "utf8"))).toBeGreaterThanOrEqual(7200);
    expect(Date.parse((await extend(60)).stdout.trim()) / 1000).toBe(end);
    writeFileSync(expiry("ending"), "");
    expect(await extend(9000)).toMatchObject({ code: 35, stderr: "the time is over: it ends right now\n" });
    rmSync(expiry("ending"));
  });
});

/** A search path on which one program is found after thousands of folders that do not exist, a third of a second; all others at once. */
function pathThatFindsLate(program: string, folder: string): string {
  const usual = process.env["PATH"] ?? "";
  const found = new Map<string, string>();
  for (const bin of usual.split(":").filter(existsSync)) {
    for (const name of readdirSync(bin)) if (!found.has(name)) found.set(name, path.join(bin, name));
  }
  found.delete(program);
  mkdirSync(folder);
  for (const [name, file] of found) symlinkSync(file, path.join(folder, name));
  return `${folder}:${"x:".repeat(55_000)}${usual}`;
}

describe("the clock of a limited time", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "tandem-expiry-"));
    writeFileSync(path.join(folder, "end"), `touch ${folder}/ended\n`);
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  const now = () => Math.floor(Date.now() / 1000);
  const uptime = () => Math.floor(Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]));
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();

  /** Looks once. @returns whether the time is over */
  function look(files: Readonly<Record<string, string | number>>): boolean {
    for (const [name, value] of Object.entries(files)) writeFileSync(path.join(folder, name), `${value}\n`);
    execFileSync("sh", [path.join(HOST_SCRIPTS, "expiry-tick.sh"), folder], { stdio: "pipe" });
    return existsSync(path.join(folder, "ended"));
  }

  it("is not over before its end", () => {
    expect(look({ expires: now() + 60, lifetime: 3600, used: `${boot} ${uptime()} 10` })).toBe(false);
    const [, , sum = ""] = readFileSync(path.join(folder, "used"), "utf8").split(" ");
    expect(Number(sum)).toBeGreaterThanOrEqual(10);
    expect(Number(sum)).toBeLessThan(15);
  });

  it("is over at its end by the clock", () => {
    expect(look({ expires: now(), lifetime: 3600, used: `${boot} ${uptime()} 0` })).toBe(true);
  });

  it("is over when the time has passed, though the clock was set back by a day", () => {
    expect(look({ expires: now() + 86_400, lifetime: 3600, used: `${boot} ${uptime() - 600} 3100` })).toBe(true);
  });

  it("counts the time of earlier boots, and each boot from its first look on", () => {
    expect(look({ expires: now() + 86_400, lifetime: 3600, used: `earlier-boot 99999 3000` })).toBe(false);
    expect(look({ used: "earlier-boot 99999 3601" })).toBe(true);
  });

  it.each(["expires", "lifetime"])("is over when %s can't be read: a damaged file prolongs nothing", (name) => {
    expect(look({ expires: now() + 60, lifetime: 3600, used: `${boot} ${uptime()} 0`, [name]: "soon" })).toBe(true);
  });
});

describe("user data", () => {
  const createdAt = new Date("2026-11-25T10:00:00Z");
  const text = userData({ createdAt, expiresAt: new Date("2026-11-25T12:00:00Z") });

  it("is a POSIX shell script, without findings, and fits into what EC2 takes", () => {
    expect(text.startsWith("#!/bin/sh\n")).toBe(true);
    expect(Buffer.byteLength(text)).toBeLessThan(8192);
    expect(spawnSync("sh", ["-n"], { input: text, encoding: "utf8" })).toMatchObject({ status: 0, stderr: "" });
    const shellcheck = execFileSync("sh", ["scripts/tool.sh", "shellcheck"], { encoding: "utf8" }).trim();
    expect(spawnSync(shellcheck, ["-"], { input: text, encoding: "utf8" })).toMatchObject({ status: 0, stdout: "" });
  });

  it("holds the end and the length of the run", () => {
    expect(text).toContain(`echo ${Date.parse("2026-11-25T12:00:00Z") / 1000} >"$folder/expires"`);
    expect(text).toContain('echo 7200 >"$folder/lifetime"');
    expect(userData({ createdAt })).toBe("#!/bin/sh\n");
  });
});
