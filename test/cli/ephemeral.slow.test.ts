import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { writeStandIn } from "../fakes/vllm/runtime";

const root = path.resolve(__dirname, "../..");

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** `tandem ephemeral` on this machine with the stand-in for vLLM, in a home of its own. */
class Workplace {
  readonly folder = mkdtempSync(path.join(tmpdir(), "tandem-ephemeral-"));
  readonly home = path.join(this.folder, "home");

  constructor() {
    writeStandIn(this.folder);
    const settings = {
      target: "local",
      model: path.join(this.folder, "model"),
      runtime: "archive",
      runtimePath: path.join(this.folder, "vllm.tar"),
      gpus: 0,
      training: { backend: "off" },
      gateway: { enabled: false },
    };
    const config = Object.fromEntries(Object.entries(settings).map(([name, value]) => [`tandem:${name}`, value]));
    writeFileSync(path.join(this.folder, "Pulumi.probe.yaml"), stringify({ config }));
  }

  start(flags: readonly string[], command: readonly string[]): { child: ChildProcess; ended: Promise<Ended> } {
    const argv = ["ephemeral", "--env", path.join(this.folder, "Pulumi.probe.yaml"), ...flags, "--", ...command];
    const child = spawn(path.join(root, "bin/tandem"), argv, {
      cwd: this.folder,
      env: { ...process.env, TANDEM_HOME: this.home },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
    child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
    const ended = new Promise<Ended>((resolve) => child.once("close", (code) => resolve({ code, stdout, stderr })));
    return { child, ended };
  }

  /** Stacks that are on this machine: the host's folders, environments and notes of runs. */
  left(): string[] {
    const folders = ["host/stacks", "workspace", "ephemeral"].map((name) => path.join(this.home, name));
    return folders.flatMap((folder) =>
      existsSync(folder) ? readdirSync(folder).map((name) => path.join(folder, name)) : [],
    );
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

let place: Workplace;
beforeAll(() => {
  place = new Workplace();
});
afterAll(() => {
  place.remove();
});

const ASK = [
  `echo "$TANDEM_BASE_URL" "$OPENAI_BASE_URL"`,
  `stat -c %a "$TANDEM_OUTPUTS"`,
  `curl -s "$TANDEM_BASE_URL/models" -H "Authorization: Bearer $TANDEM_API_KEY"`,
];

describe("tandem ephemeral", () => {
  it("gives two commands at once an environment each, ends with their statuses, and leaves nothing", async () => {
    const passing = place.start(["--ttl", "20m", "--junit", "one.xml"], ["sh", "-c", ASK.join(" && ")]);
    const failing = place.start(["--json", "two.json", "--artifacts", "kept"], ["sh", "-c", `${ASK[0] ?? ""}; exit 7`]);
    const [one, two] = await Promise.all([passing.ended, failing.ended]);
    expect(one.code, one.stderr).toBe(0);
    expect(two.code, two.stderr).toBe(7);
    const [url = "", openai] = one.stdout.split(/\s/);
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/v1$/);
    expect(openai).toBe(url);
    expect(one.stdout).toContain("\n600\n");
    expect(one.stdout).toContain('"object": "list"');
    expect(two.stdout.split(/\s/)[0]).not.toBe(url);
    expect(place.left()).toEqual([]);

    const junit = readFileSync(path.join(place.folder, "one.xml"), "utf8");
    expect(junit).toMatch(/<testsuite name="e-probe-\w+" tests="3" failures="0" skipped="0"/);
    const summary = JSON.parse(readFileSync(path.join(place.folder, "two.json"), "utf8")) as object;
    expect(summary).toMatchObject({
      exitStatus: 7,
      isGone: true,
      phases: [
        { name: "up", status: "passed" },
        { name: "command", status: "failed", detail: "exit 7" },
        { name: "destroy", status: "passed" },
      ],
    });
    const kept = path.join(place.folder, "kept");
    expect(readdirSync(kept).toSorted()).toEqual([
      "failure-1.capsule.md",
      "hosts.log",
      "logs",
      "outputs.json",
      "summary.json",
    ]);
    expect(readFileSync(path.join(kept, "outputs.json"), "utf8")).not.toContain("tdm-");
    expect(readFileSync(path.join(kept, "hosts.log"), "utf8")).toContain("== serving");
  });

  it("ends the command in order when it is told to end, takes all away, and has the signal's status", async () => {
    const marker = path.join(place.folder, "told");
    const { child, ended } = place.start(
      [],
      ["sh", "-c", `trap 'touch ${marker}; exit 0' TERM; echo ready; while :; do sleep 0.1; done`],
    );
    await said(child, "ready");
    child.kill("SIGTERM");
    const { code, stderr } = await ended;
    expect(code, stderr).toBe(143);
    expect(existsSync(marker)).toBe(true);
    expect(place.left()).toEqual([]);
  });

  it("is killed with SIGKILL: another process ends the command and takes all away", async () => {
    const { child } = place.start([], ["sh", "-c", "echo ready; exec sleep 300"]);
    await said(child, "ready");
    expect(place.left()).toHaveLength(3);
    child.kill("SIGKILL");
    await expect.poll(() => place.left(), { timeout: 120_000, interval: 500 }).toEqual([]);
  });

  it("does not come up: status 125, and nothing is left", async () => {
    const missing = ["--runtime-path", path.join(place.folder, "no-such.tar")];
    const { code, stderr } = await place.start(missing, ["true"]).ended;
    expect(code, stderr).toBe(125);
    expect(stderr).toContain("up failed");
    expect(place.left()).toEqual([]);
  });

  it("refuses what makes no sense before anything is made", async () => {
    const { code, stderr } = await place.start(["--ttl", "soon"], ["true"]).ended;
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: "--ttl: not a duration — got soon — allowed: minutes, hours or days, such as 90m, 2h or 1d\n",
    });
    expect(place.left()).toEqual([]);
  });
});

function said(child: ChildProcess, word: string): Promise<void> {
  return new Promise((resolve, reject) => {
    child.stdout?.on("data", (data: Buffer) => {
      if (data.toString().includes(word)) resolve();
    });
    child.once("close", (code) => reject(new Error(`it ended with ${String(code)} before it said ${word}`)));
  });
}
