import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { freePort } from "../test/fixtures/free-port";

const root = path.resolve(__dirname, "..");

/** Name of the bench's stack on this machine; the user's own stacks stay as they are. */
const STACK = "bench";
/** Ticks a second in /proc; 100 on every Linux that Tandem runs on. */
const TICKS_PER_SECOND = 100;
const POLL_MILLISECONDS = 50;

/** A stack of the bench's own: state and settings in a temporary folder, the `local` preset on a free port, without the trainer unless asked for. */
export interface BenchStack {
  readonly folder: string;
  /** Runs `tandem`, with variables of the guide as overrides; returns its wall time in seconds. */
  tandem(command: "up" | "destroy", overrides?: Readonly<Record<string, string>>): Promise<number>;
  /** One output by its name, e.g. `endpoints.baseUrl`. */
  output(name: string): string;
  /** Wall time of vLLM itself, seconds: from the start of its process to the first 200 of /health; follows an `up`. */
  watchStart(): { stop(): number | undefined };
  remove(): void;
}

export async function openBenchStack(): Promise<BenchStack> {
  const folder = mkdtempSync(path.join(tmpdir(), "tandem-bench-"));
  const settings = path.join(folder, `Pulumi.${STACK}.yaml`);
  cpSync(path.join(root, "stacks/Pulumi.local.yaml"), settings);
  const port = await freePort();
  const environment = { ...process.env, TRAINING_BACKEND: "off", TANDEM_HOME: path.join(folder, "home") };
  return {
    folder,
    tandem: (command, overrides) => {
      const flags = command === "up" ? ["--env", settings, "--port", String(port)] : ["--env", STACK];
      return timed(path.join(root, "bin/tandem"), [command, "--yes", ...flags], { ...environment, ...overrides });
    },
    output: (name) =>
      execFileSync(path.join(root, "bin/tandem"), ["outputs", "--env", STACK, name], {
        env: environment,
        encoding: "utf8",
      }).trim(),
    watchStart: () => watchStart(port),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** Runs a command to its end; its wall time in seconds. Its output is shown only when it fails. */
export function timed(command: string, args: string[], environment: NodeJS.ProcessEnv): Promise<number> {
  const startedAt = performance.now();
  const child = spawn(command, args, { env: environment, stdio: ["ignore", "pipe", "pipe"] });
  // Asked to end, the bench ends what it runs and then destroys its stack. Ctrl-C reaches the child by itself.
  const forward = () => child.kill("SIGINT");
  process.once("SIGTERM", forward);
  const output: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => output.push(chunk));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      process.off("SIGTERM", forward);
      const text = Buffer.concat(output).toString();
      if (code === 0) resolve((performance.now() - startedAt) / 1000);
      else reject(new Error(`${path.basename(command)} ${args.join(" ")} ended with ${code}:\n${text}`));
    });
  });
}

function watchStart(port: number): { stop(): number | undefined } {
  let startedAt: number | undefined;
  let healthyAt: number | undefined;
  const poll = setInterval(() => {
    startedAt ??= startOfServer();
    void fetch(`http://127.0.0.1:${port}/health`).then(
      ({ ok }) => (healthyAt ??= ok ? Date.now() : undefined),
      () => undefined, // Nobody listens yet.
    );
  }, POLL_MILLISECONDS);
  return {
    stop: () => {
      clearInterval(poll);
      return startedAt === undefined || healthyAt === undefined ? undefined : (healthyAt - startedAt) / 1000;
    },
  };
}

/** When the oldest vLLM process of the bench's stack started, milliseconds since 1970. */
function startOfServer(): number | undefined {
  const starts = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && isServer(name))
    .flatMap((name) => startOf(name) ?? []);
  return starts.length === 0 ? undefined : Math.min(...starts);
}

function isServer(processId: string): boolean {
  const [program, ...rest] = readProc(processId, "cmdline").split("\0");
  const isVllm =
    /python[\d.]*$/.test(program ?? "") && rest.slice(0, 2).some((argument) => argument.startsWith("vllm"));
  return isVllm && readProc(processId, "environ").split("\0").includes(`TANDEM_OWNER=${STACK}/serving`);
}

function startOf(processId: string): number | undefined {
  // The command's name stands in parentheses; the start, in ticks since boot, is the 20th field after it.
  const ticks = Number(readProc(processId, "stat").split(") ").at(-1)?.split(" ")[19]);
  const upSeconds = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
  return Number.isNaN(ticks) ? undefined : Date.now() - (upSeconds - ticks / TICKS_PER_SECOND) * 1000;
}

function readProc(processId: string, file: "cmdline" | "environ" | "stat"): string {
  try {
    return readFileSync(`/proc/${processId}/${file}`, "utf8");
  } catch {
    return ""; // It ended while we looked.
  }
}
