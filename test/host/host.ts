import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";

export const HOST_SCRIPTS = path.resolve(__dirname, "../../bootstrap/host");

export interface Answer {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Request {
  readonly values?: Readonly<Record<string, string>>;
  readonly document?: unknown;
  readonly secrets?: Readonly<Record<string, string>>;
}

export interface Check {
  readonly step: string;
  readonly holds: boolean;
  readonly reason?: string;
  readonly token: string;
}

/** A host of a test's own: the real scripts, on this machine, in folders that nobody else uses. */
export class TestHost {
  readonly root = realpathSync(mkdtempSync(path.join(tmpdir(), "tandem-host-")));
  readonly hostDir = path.join(this.root, "host");
  readonly stack = "unit-test";
  readonly stackDir = path.join(this.hostDir, "stacks", this.stack);
  readonly environment: Record<string, string>;

  /**
   * @param steps scripts of the test's own beside the real ones, by step name
   * @param user whom all of it belongs to and runs as; whoever runs the tests when left out
   */
  constructor(
    steps: Readonly<Record<string, string>> = {},
    environment: Readonly<Record<string, string>> = {},
    private readonly user?: number,
  ) {
    const scripts = path.join(this.root, "scripts");
    execFileSync("mkdir", ["-p", scripts, path.join(this.root, "home")]);
    // Another user may not get to where the project lies.
    if (user !== undefined) cpSync(HOST_SCRIPTS, scripts, { recursive: true });
    else
      for (const name of readdirSync(HOST_SCRIPTS))
        symlinkSync(path.join(HOST_SCRIPTS, name), path.join(scripts, name));
    for (const [step, text] of Object.entries(steps)) writeFileSync(path.join(scripts, `${step}.sh`), text);
    this.environment = {
      TANDEM_STACK: this.stack,
      TANDEM_HOST_DIR: this.hostDir,
      TANDEM_CACHE_DIR: path.join(this.root, "cache"),
      TANDEM_SCRIPTS_DIR: scripts,
      TANDEM_SERVICE_MANAGER: "supervisor",
      HOME: path.join(this.root, "home"),
      ...environment,
    };
    if (user !== undefined) execFileSync("chown", ["-R", `${user}:${user}`, this.root]);
  }

  /** Starts `work.sh` (or another script) and hands out the process; its request goes to standard input. */
  start(argv: readonly string[], request: Request = {}, script = "work.sh"): ChildProcess {
    const child = spawn("sh", [path.join(this.environment["TANDEM_SCRIPTS_DIR"] ?? "", script), ...argv], {
      env: { ...process.env, ...this.environment },
      ...(this.user !== undefined && { uid: this.user, gid: this.user, cwd: this.root }),
    });
    const { values = {}, document = {}, secrets = {} } = request;
    child.stdin.on("error", () => undefined);
    child.stdin.end([values, document, secrets].map((part) => `${JSON.stringify(part)}\n`).join(""));
    return child;
  }

  run(argv: readonly string[], request: Request = {}, script = "work.sh"): Promise<Answer> {
    return answerOf(this.start(argv, request, script));
  }

  async check(): Promise<Check[]> {
    const { stdout } = await this.run(["check"]);
    return stdout
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Check);
  }

  /** Takes the stack away and removes the folders. */
  async close(): Promise<void> {
    const { code, stderr } = await this.run(["sweep"]);
    rmSync(this.root, { recursive: true, force: true });
    if (code !== 0) throw new Error(`sweep failed: ${stderr}`);
  }
}

export function answerOf(child: ChildProcess): Promise<Answer> {
  return new Promise((resolve) => {
    let stdout = "";
    let stderr = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.on("close", (code) => resolve({ code: code ?? -1, stdout, stderr }));
  });
}

/** Waits for something that comes soon. @throws Error when it does not */
export async function until(what: string, isSo: () => boolean, limitSeconds = 10): Promise<void> {
  const deadline = Date.now() + limitSeconds * 1000;
  while (!isSo()) {
    if (Date.now() > deadline) throw new Error(`waited ${limitSeconds} s for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/**
 * Kills a process whose id was read somewhere.
 * @throws Error for what is none: 0 would be the group of the tests themselves
 */
export function kill(processId: number): void {
  if (!(processId > 1)) throw new Error(`there is no process to kill: ${processId}`);
  process.kill(processId, "SIGKILL");
}

/** Ids of living processes whose command line holds a text. */
export function processesWith(text: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((name) => read(`/proc/${name}/cmdline`).split("\0").join(" ").includes(text))
    .map(Number);
}

export function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
