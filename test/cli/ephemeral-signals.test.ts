import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { stringify } from "yaml";

const root = path.resolve(__dirname, "../..");
const TANDEM = [
  process.execPath,
  "--import",
  path.join(root, "node_modules/tsx/dist/loader.mjs"),
  path.join(__dirname, "fixtures/tandem-without-engine.ts"),
];

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "tandem-signals-"));
  const settings = {
    target: "local",
    model: folder,
    gpus: 0,
    training: { backend: "off" },
    gateway: { enabled: false },
  };
  const config = Object.fromEntries(Object.entries(settings).map(([name, value]) => [`tandem:${name}`, value]));
  writeFileSync(path.join(folder, "Pulumi.probe.yaml"), stringify({ config }));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const at = (name: string) => path.join(folder, name);
/** Which of `up` and `destroy` were called. */
const calls = () => (existsSync(at("calls")) ? readFileSync(at("calls"), "utf8").trim().split("\n") : []);
const runsNoted = () => (existsSync(at("home/ephemeral")) ? readdirSync(at("home/ephemeral")) : []);

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program in the run's folder; `meanwhile` is called with what it has said to standard error, whenever it says more. */
function start(
  argv: readonly string[],
  variables: Readonly<Record<string, string>> = {},
  meanwhile: (said: string, kill: (signal: NodeJS.Signals) => void) => void = () => undefined,
): Promise<Ended> {
  const [program = "", ...rest] = argv;
  const env = { ...process.env, TANDEM_HOME: at("home"), TANDEM_TEST_CALLS: at("calls"), ...variables };
  const child = spawn(program, rest, { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
  child.stderr.on("data", (data: Buffer) => {
    stderr += data.toString();
    meanwhile(stderr, (signal) => child.kill(signal));
  });
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, stdout, stderr })));
}

function ephemeral(flags: readonly string[], command: readonly string[]): string[] {
  return [...TANDEM, "ephemeral", "--env", at("Pulumi.probe.yaml"), ...flags, "--", ...command];
}

/** `tandem ephemeral` on a terminal, at which `actions` are done once the command has made the file `ready`. */
function onTerminal(actions: string, script: string): Promise<Ended> {
  const terminal = ["python3", path.join(__dirname, "fixtures/terminal.py"), at("ready"), actions];
  return start([...terminal, ...ephemeral([], ["sh", "-c", script])]);
}

describe("tandem ephemeral", () => {
  it("takes everything away when its terminal is gone", async () => {
    const { stdout, stderr } = await onTerminal("hang-up", "touch ready; exec sleep 300");
    expect(stdout.trim(), stderr).toBe("129");
    expect(calls()).toEqual(["up", "destroy"]);
    expect(runsNoted()).toEqual([]);
  });

  it("lets Ctrl-C end the command, and takes everything away", async () => {
    const { stdout, stderr } = await onTerminal(
      "ctrl-c",
      "trap 'touch told; exit 0' INT; touch ready; while :; do sleep 0.1; done",
    );
    expect(stdout.trim(), stderr).toBe("130");
    expect(existsSync(at("told"))).toBe(true);
    expect(calls()).toEqual(["up", "destroy"]);
  });

  it("kills a command that will not end at the second Ctrl-C, and still takes everything away", async () => {
    // It counts tenths of a second: left to the ten that the first Ctrl-C gives it would get to a hundred.
    const deaf = "trap '' INT TERM; touch ready; i=0; while :; do i=$((i + 1)); echo $i >count; sleep 0.1; done";
    const { stdout, stderr } = await onTerminal("ctrl-c,again", deaf);
    expect(stdout.trim(), stderr).toBe("130");
    expect(stderr).toContain("hurrying");
    expect(Number(readFileSync(at("count"), "utf8"))).toBeLessThan(80);
    expect(calls()).toEqual(["up", "destroy"]);
  });

  it("is told to end while the environment comes up: the command never runs, and everything is taken away", async () => {
    const argv = ephemeral([], ["touch", "ran"]);
    const ended = start(argv, { TANDEM_TEST_UP: "wait" });
    await expect.poll(calls, { timeout: 30_000 }).toEqual(["up"]);
    // The process notes itself in the run's folder.
    const [name = ""] = runsNoted();
    const owner = JSON.parse(readFileSync(at(`home/ephemeral/${name}/owner`), "utf8")) as { processId: number };
    process.kill(owner.processId, "SIGTERM");
    const { code, stderr } = await ended;
    expect(code, stderr).toBe(143);
    expect(existsSync(at("ran"))).toBe(false);
    expect(calls()).toEqual(["up", "destroy"]);
  });

  it("keeps a failed environment with --keep-on-failure, at most until its end, until Ctrl-C, and keeps the command's status", async () => {
    let sawKept = "";
    const argv = ephemeral(["--ttl", "5m", "--keep-on-failure", "30m"], ["sh", "-c", "exit 3"]);
    const { code, stderr } = await start(argv, {}, (said, kill) => {
      if (sawKept !== "" || !said.includes("end it now")) return;
      sawKept = calls().join();
      kill("SIGINT");
    });
    expect(code, stderr).toBe(3);
    expect(sawKept).toBe("up");
    expect(calls()).toEqual(["up", "destroy"]);
    const until = /kept until (\S+)/.exec(stderr)?.[1] ?? "";
    const latest = /gone at (\S+) at the latest/.exec(stderr)?.[1] ?? "none";
    expect(until).toBe(latest);
  });

  it("keeps nothing with --keep-on-failure when a mistake was found before anything was made", async () => {
    const { code, stderr } = await start(ephemeral(["--keep-on-failure", "30m"], ["true"]), { TANDEM_TEST_UP: "2" });
    expect(code, stderr).toBe(2);
    expect(calls()).toEqual(["up", "destroy"]);
  });

  it("says a mistake and notes it, and does not insist on a clean-up where nothing was made", async () => {
    const flags = ["--junit", at("junit.xml"), "--json", at("summary.json")];
    const variables = { TANDEM_TEST_UP: "3", TANDEM_TEST_DESTROY: "1" };
    const { code, stderr } = await start(ephemeral(flags, ["true"]), variables);
    expect(code, stderr).toBe(3);
    expect(stderr).toContain("gpus: is not allowed\n");
    expect(stderr).toContain("made nothing");
    expect(stderr).not.toContain("capsule");
    expect(readFileSync(at("junit.xml"), "utf8")).toContain('<failure message="gpus: is not allowed">');
    const summary = JSON.parse(readFileSync(at("summary.json"), "utf8")) as object;
    expect(summary).toMatchObject({
      isGone: true,
      phases: [{ detail: "gpus: is not allowed" }, {}, { name: "destroy" }],
    });
    expect(calls()).toEqual(["up", "destroy"]);
    expect(runsNoted()).toEqual([]);
  });

  it("is killed: its watchdog ends what runs, and no process that got the number of one that had ended", async () => {
    const [other, child] = [0, 1].map(() => spawn("sleep", ["60"], { detached: true, stdio: "ignore" }));
    const ended = new Promise((resolve) => child?.once("close", (_code, signal) => resolve(signal)));
    const runFolder = at("run");
    mkdirSync(runFolder);
    const program = path.join(__dirname, "fixtures/watched-and-killed.ts");
    await start([...TANDEM.slice(0, 3), program, runFolder, String(other?.pid), String(child?.pid)]);
    expect(await ended).toBe("SIGTERM");
    // It takes the folder away when it has done all the rest.
    await expect.poll(() => existsSync(runFolder), { timeout: 20_000 }).toBe(false);
    expect(other?.exitCode ?? other?.signalCode).toBeNull();
    other?.kill();
  });
});
