import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { findKnownCause } from "../../bootstrap/runner/causes";
import { examineHost, type Diagnosis, type Verdict } from "../../bootstrap/runner/doctor";
import { explainingFailure } from "../../bootstrap/runner/failure";
import { applyStep } from "../../bootstrap/runner/step";
import { parseSettings } from "../../plan/settings";
import { describeOnHosts, startHosts, type Fleet, type TestHost } from "../fixtures/hosts/hosts";

const { settings } = parseSettings({ gpus: 0 });
const STACK = "doctor-test";

let fleet: Fleet | undefined;
let host: TestHost;
let home: string;
const before = { ...process.env };

beforeAll(async () => {
  fleet = await startHosts(["doc"]);
  host = fleet.host("doc");
  home = mkdtempSync(path.join(tmpdir(), "tdm-"));
  process.env["TANDEM_HOME"] = home;
});
afterAll(async () => {
  await fleet?.close();
  for (const name of ["TANDEM_HOME", "TANDEM_CAPSULES"]) {
    if (before[name] === undefined) Reflect.deleteProperty(process.env, name);
    else process.env[name] = before[name];
  }
  rmSync(home, { recursive: true, force: true });
});

function examine(user: "root" | "ops" | "guest" = "root"): Promise<Diagnosis> {
  return examineHost(host.sshTarget(user), settings!, STACK);
}

function of(diagnosis: Diagnosis, check: string): Verdict[] {
  return diagnosis.verdicts.filter((verdict) => verdict.check === check);
}

/** What apt says on the host now; a failure is what is wanted. */
async function apt(command: string): Promise<string> {
  const { stdout, stderr } = await host.tryExec(`LC_ALL=C ${command} 2>&1`, 60);
  return `${stdout}\n${stderr}`;
}

describeOnHosts("tandem doctor on a real host", () => {
  it("examines a bare box as root and leaves it as it was", async () => {
    // What the login itself writes is no doing of ours.
    const changed = "find / -xdev -newer /root/mark -type f -not -path '/var/log/*' -not -path '/root/mark'";
    await host.exec("touch /root/mark");
    const diagnosis = await examine();
    expect(await host.exec(`${changed}; ls /tmp /dev/shm`)).toMatch(
      /^\/dev\/shm:\s+\/tmp:\s*(systemd-private-\S+\s*)*$/,
    );
    expect(of(diagnosis, "reach")).toMatchObject([{ verdict: "ok" }]);
    expect(of(diagnosis, "system")).toMatchObject([{ verdict: "ok" }]);
    expect(of(diagnosis, "privileges")).toMatchObject([{ verdict: "ok", text: "works as root" }]);
    expect(of(diagnosis, "clock")).toMatchObject([{ verdict: "ok" }]);
    expect(of(diagnosis, "services")).toMatchObject([
      { verdict: "ok", text: expect.stringMatching(/systemd is/) as string },
    ]);
    expect(of(diagnosis, "packages")).toMatchObject([{ verdict: "ok" }]);
    // A bare box has no compiler.
    expect(of(diagnosis, "compiler")).toMatchObject([{ verdict: "warn" }]);
  });

  it("tells users with sudo from users without", async () => {
    expect(of(await examine("ops"), "privileges")).toMatchObject([{ verdict: "ok" }]);
    expect(of(await examine("guest"), "privileges")).toMatchObject([
      { verdict: "warn", cure: expect.stringContaining("NOPASSWD") as string },
    ]);
  });

  it("names who holds dpkg's lock, and knows apt's own words for it", async () => {
    await host.holdDpkgLock(10);
    const [verdict] = of(await examine(), "packages");
    expect(verdict).toMatchObject({ verdict: "warn", text: expect.stringMatching(/process \d+ \S+/) as string });
    expect(findKnownCause(await apt("apt-get install -y hello"))?.cause).toMatch(
      /process \d+ \(.*\) holds its lock|busy/,
    );
    await host.exec(
      "while systemctl is-active -q slow-package; do sleep 0.3; done; systemctl reset-failed slow-package || true",
    );
  });

  it("sees a clock that is an hour off", async () => {
    await host.skewClock(3600);
    try {
      expect(of(await examine(), "clock")).toMatchObject([
        { verdict: "warn", text: expect.stringContaining("60 min ahead of") as string },
      ]);
    } finally {
      await host.skewClock(0);
    }
  });

  it("names who holds the port", async () => {
    await host.takePort(settings!.port);
    try {
      expect(of(await examine(), "port")).toMatchObject([
        { verdict: "fail", text: expect.stringMatching(/held by process \d+ /) as string },
      ]);
    } finally {
      await host.freePort(settings!.port);
    }
  });

  it("sees a full disk and a read-only one", async () => {
    await host.fillDisk();
    try {
      expect(of(await examine(), "disk")).toContainEqual(expect.objectContaining({ verdict: "fail" }));
      expect(findKnownCause(await apt("cp /bin/bash /root/copy"))?.cause).toMatch(/disk is full/);
    } finally {
      await host.freeDisk();
    }
    await host.readOnlyDisk();
    try {
      expect(of(await examine(), "disk")).toContainEqual(
        expect.objectContaining({ verdict: "fail", text: expect.stringContaining("read-only") as string }),
      );
      expect(findKnownCause(await apt("touch /root/copy"))?.cause).toMatch(/read-only/);
    } finally {
      await host.writableDisk();
    }
  });

  it("sees a half-finished installation, and knows apt's own words for it", async () => {
    await host.breakDpkg();
    expect(of(await examine(), "packages")).toMatchObject([
      { verdict: "fail", cure: expect.stringContaining("dpkg --configure -a") as string },
    ]);
    expect(findKnownCause(await apt("apt-get install -y hello"))?.cause).toMatch(/stopped half-way/);
  });

  it("says in one line that a host does not answer", async () => {
    await host.powerOff();
    try {
      expect((await examine()).verdicts).toMatchObject([{ check: "reach", verdict: "fail" }]);
    } finally {
      await host.start();
    }
  });

  it("brings the capsule of a failed step home", async () => {
    const request = {
      target: host.sshTarget("ops"),
      stack: STACK,
      step: "weights",
      values: {},
      document: { source: "directory", model: "/no/such/model", revision: "main", python: "/usr/bin/python3" },
      secrets: { hubToken: "canary-1234567890" },
      timeoutSeconds: 60,
    } as const;
    process.env["TANDEM_CAPSULES"] = path.join(home, "capsules");
    const failing = explainingFailure(request, async (onProgress) => {
      await applyStep(request, { onProgress });
    });
    const message = await failing.then(
      () => "",
      (error: unknown) => String(error),
    );
    const file = /\n {2}more: {2}(\S+)/.exec(message)?.[1] ?? "no capsule";
    const text = readFileSync(file, "utf8");
    expect(text).toContain("# weights failed on doc");
    expect(text).toMatch(/## Versions\n~+text\nLinux doc /);
    expect(text).toMatch(/systemd's journal/);
    expect(text).not.toContain("canary-1234567890");
  });
});

afterEach(({ task }) => {
  if (task.result?.state === "fail") console.error(`console of the host: ${host.console}`);
});
