import { spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { explainingFailure } from "../../bootstrap/runner/failure";
import type { StepRequest } from "../../bootstrap/runner/request";
import { StepError } from "../../bootstrap/runner/step";
import { freePort } from "../fixtures/free-port";
import { markedProcesses } from "../setup/leftovers";

const ROOT = path.resolve(__dirname, "../..");
const TOKEN = "canary/known+secret=7f3a"; // No pattern knows it.
/** What no request names, in places that a capsule reads. */
const CANARIES = {
  key: "tdm-CANARYcanaryCANARYcanaryCANARY01",
  hub: "hf_CanaryCanaryCanaryCanary0123456789",
  aws: "AKIACANARYCANARY1234",
  url: "canaryPassword99",
  bearer: "canary.bearer-token_0123456789",
} as const;

let folder: string;
let request: StepRequest;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "tandem-capsule-"));
  request = {
    target: { kind: "local" },
    stack: "unit-test",
    step: "weights",
    values: { TANDEM_NOTE: "of the request" },
    document: {
      source: "directory",
      model: path.join(folder, "no-model"),
      revision: "main",
      python: "/usr/bin/python3",
    },
    secrets: { hubToken: TOKEN },
    timeoutSeconds: 60,
  };
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const capsules = () => path.join(folder, "capsules");

interface Run {
  readonly code: number | null;
  readonly stderr: string;
  readonly seconds: number;
}

/** The real runner with this request, on a host folder of the test's own. */
function runStep(change: Partial<StepRequest> = {}, environment: Record<string, string> = {}): Promise<Run> {
  const started = Date.now();
  const child = spawn(
    path.join(ROOT, "bin/node22"),
    ["--import", "tsx", path.join(ROOT, "bootstrap/runner/main.ts"), "apply"],
    {
      cwd: ROOT,
      env: {
        ...process.env,
        TANDEM_HOST_DIR: path.join(folder, "host"),
        TANDEM_CACHE_DIR: path.join(folder, "cache"),
        TANDEM_HOME: path.join(folder, "home"),
        TANDEM_CAPSULES: capsules(),
        ...environment,
      },
    },
  );
  child.stdin.end(JSON.stringify({ ...request, ...change }));
  let stderr = "";
  child.stderr.on("data", (text: Buffer) => (stderr += text.toString()));
  return new Promise((resolve) =>
    child.on("close", (code) => resolve({ code, stderr, seconds: (Date.now() - started) / 1000 })),
  );
}

function theCapsule(): { path: string; text: string } {
  const [name, ...more] = readdirSync(capsules());
  expect(more).toEqual([]);
  const file = path.join(capsules(), name ?? "");
  return { path: file, text: readFileSync(file, "utf8") };
}

/** A unit of the stack whose log holds what must not come out. */
function plantUnit(): void {
  const unit = path.join(folder, "host/stacks/unit-test/units/serving");
  mkdirSync(unit, { recursive: true, mode: 0o700 });
  for (const parent of ["host", "host/stacks", "host/stacks/unit-test"]) chmodSync(path.join(folder, parent), 0o700);
  writeFileSync(path.join(unit, "status.json"), '{"state":"failed","restarts":5}');
  writeFileSync(
    path.join(unit, "log"),
    [
      "a line before",
      `api_key='${CANARIES.key}' served`,
      `HF_TOKEN=${CANARIES.hub}`,
      `aws ${CANARIES.aws} and again ${TOKEN} and ${encodeURIComponent(TOKEN)}`,
      `fetching https://user:${CANARIES.url}@index.example.org/simple`,
      `Authorization: Bearer ${CANARIES.bearer}`,
      "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1jYW5hcnk=\n-----END OPENSSH PRIVATE KEY-----",
      "a line after",
    ].join("\n"),
  );
}

describe("a step that fails", () => {
  it("leaves a capsule for the user alone that explains it, and says where", async () => {
    const { code, stderr } = await runStep();
    expect(code).toBe(1);
    const { path: file, text } = theCapsule();
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(statSync(capsules()).mode & 0o777).toBe(0o700);
    expect(stderr).toMatch(/^weights failed on this machine: /m);
    expect(stderr).toContain(`\n  more:  ${file}`);
    for (const part of [
      "What was said",
      "Log of the step",
      "Service",
      "Kernel",
      "Memory",
      "Disks",
      "Versions",
      "Request of the step",
      "Which steps hold",
    ]) {
      expect(text).toContain(`## ${part}`);
    }
    expect(text).toContain(path.join(folder, "no-model"));
    expect(text).toMatch(/\{"step":"weights","holds":false/);
    expect(text).toContain('"TANDEM_NOTE": "of the request"');
    expect(text).not.toContain("no answer within");
  });

  it("keeps no secret in the capsule or on the screen, known or only looking like one", async () => {
    plantUnit();
    const { stderr } = await runStep();
    const { text } = theCapsule();
    for (const secret of [...Object.values(CANARIES), TOKEN, encodeURIComponent(TOKEN), "b3BlbnNzaC1jYW5hcnk"]) {
      expect(text).not.toContain(secret);
      expect(stderr).not.toContain(secret);
    }
    expect(text).toContain("a line before");
    expect(text).toContain("a line after");
    expect(text).toContain("https://user:[secret]@index.example.org/simple");
    expect(text.match(/\[secret\]/g)?.length).toBeGreaterThanOrEqual(7);
  });

  it("adds the cause that only the host's logs show", async () => {
    const file = path.join(folder, "kernel.log");
    const uptime = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) + 3;
    writeFileSync(
      file,
      `[    1.000000] NVRM: Xid (PCI:0000:3b:00): 48, pid=1, long before\n[${uptime.toFixed(6)}] NVRM: Xid (PCI:0000:86:00): 79, pid=1, GPU has fallen off the bus.\n`,
    );
    const { stderr } = await runStep({}, { TANDEM_KERNEL_LOG: file });
    expect(stderr).toMatch(/\n {2}cause: A GPU has fallen off the bus \(Xid 79\)\.\n {2}cure: {2}Power the host off/);
    expect(stderr).not.toContain("Xid 48");
  });

  it("is explained by what the client knows when its host does not answer", async () => {
    const port = await freePort();
    const target = {
      kind: "ssh",
      name: "gone",
      host: "127.0.0.1",
      port,
      hostKeys: "accept-new",
      sudo: "auto",
    } as const;
    const { code, stderr, seconds } = await runStep({ target, timeoutSeconds: 5 }, { TANDEM_RECONNECT_SECONDS: "1" });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^weights failed on gone \(127\.0\.0\.1\): /m);
    const { text } = theCapsule();
    expect(text).toMatch(/## The host\n~+text\nIt could not be asked: /);
    expect(seconds).toBeLessThan(45);
  }, 60_000);

  it("is explained in time on a host whose driver hangs", async () => {
    const driver = path.join(folder, "driver");
    mkdirSync(driver);
    writeFileSync(path.join(driver, "nvidia-smi"), "#!/bin/sh\nexec sleep 40\n");
    chmodSync(path.join(driver, "nvidia-smi"), 0o755);
    const { seconds } = await runStep({}, { PATH: `${driver}:${process.env["PATH"]}` });
    const { text } = theCapsule();
    expect(text).toMatch(/## Memory\n~+text\n +total/);
    expect(text).toMatch(/driver\tfail\tno answer|does not answer/);
    expect(seconds).toBeLessThan(20);
    // What was asked last still has its own limit of 10 s to run.
    const isOver = () => !markedProcesses().some(({ command }) => command === "sleep 40");
    await vi.waitFor(() => expect(isOver()).toBe(true), { timeout: 15_000, interval: 200 });
  }, 60_000);

  it("leaves none when it was stopped", async () => {
    process.env["TANDEM_CAPSULES"] = capsules();
    try {
      const stopped = new StepError("weights", "weights failed on this machine: stopped on request", 143);
      await expect(explainingFailure(request, () => Promise.reject(stopped))).rejects.toBe(stopped);
      expect(existsSync(capsules())).toBe(false);
    } finally {
      delete process.env["TANDEM_CAPSULES"];
    }
  });
});
