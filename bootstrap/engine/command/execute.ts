import { spawn, type ChildProcess } from "node:child_process";
import { statSync } from "node:fs";
import { constants } from "node:os";
import type { CommandInputs } from "./inputs";
import { quoteLikeGo } from "./quote";

const DEFAULT_INTERPRETER = ["/bin/sh", "-c"] as const;

/** How Go names the signals that end a process; part of the error text of the real provider. */
const SIGNAL_NAMES: Readonly<Partial<Record<NodeJS.Signals, string>>> = {
  SIGABRT: "aborted",
  SIGALRM: "alarm clock",
  SIGBUS: "bus error",
  SIGFPE: "floating point exception",
  SIGHUP: "hangup",
  SIGILL: "illegal instruction",
  SIGINT: "interrupt",
  SIGKILL: "killed",
  SIGPIPE: "broken pipe",
  SIGQUIT: "quit",
  SIGSEGV: "segmentation fault",
  SIGTERM: "terminated",
  SIGTRAP: "trace/breakpoint trap",
};

export interface CommandOutput {
  readonly stdout: string;
  readonly stderr: string;
}

export interface Execution {
  readonly command: string;
  readonly inputs: CommandInputs;
  /** Output of the command's previous run; the command sees it as PULUMI_COMMAND_STDOUT and PULUMI_COMMAND_STDERR. */
  readonly previous: CommandOutput;
  /** Gets each line as it comes, without its newline. */
  readonly onLine: (line: string) => void;
  /** Ends the command with SIGKILL. */
  readonly signal: AbortSignal;
}

/** A plugin whose engine was killed ends itself, and with it what it runs. */
const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/**
 * Runs one command as the real provider does and returns its output, less one newline at the end of each stream. It is over
 * when the process has ended and nobody holds its output open any more: a child in the background that keeps the pipe
 * keeps the command. SIGKILL goes to the process alone; what it started gets a SIGINT when the engine ends its plugins.
 * @throws Error `exit status 3: running "text":` with everything that was printed
 */
export async function execute(execution: Execution): Promise<CommandOutput> {
  const { command, inputs, signal } = execution;
  const both: Buffer[] = [];
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const lines = new LineSplitter(execution.onLine);
  const logging = inputs.logging ?? "stdoutAndStderr";
  const collect = (chunks: Buffer[], isLogged: boolean) => (chunk: Buffer) => {
    both.push(chunk);
    chunks.push(chunk);
    if (isLogged) lines.push(chunk);
  };
  const failure = await new Promise<string | undefined>((resolve) => {
    const missing = missingFolder(inputs.dir);
    if (missing !== undefined) {
      resolve(missing);
      return;
    }
    const child = start(execution);
    child.stdout?.on("data", collect(stdout, logging === "stdout" || logging === "stdoutAndStderr"));
    child.stderr?.on("data", collect(stderr, logging === "stderr" || logging === "stdoutAndStderr"));
    running.add(child);
    const kill = () => void child.kill("SIGKILL");
    signal.addEventListener("abort", kill, { once: true });
    if (signal.aborted) kill();
    child.once("error", (error: NodeJS.ErrnoException) => resolve(describeStartFailure(error, child)));
    child.once("close", (status, endedBy) => {
      running.delete(child);
      signal.removeEventListener("abort", kill);
      resolve(describeEnd(status, endedBy));
    });
  });
  lines.end();
  if (failure !== undefined) {
    throw new Error(`${failure}: running ${quoteLikeGo(command)}:\n${Buffer.concat(both).toString()}`);
  }
  return { stdout: withoutLastNewline(stdout), stderr: withoutLastNewline(stderr) };
}

function start({ command, inputs, previous }: Execution): ChildProcess {
  const interpreter = inputs.interpreter?.length ? inputs.interpreter : DEFAULT_INTERPRETER;
  const [program = "", ...rest] = interpreter;
  const environment: NodeJS.ProcessEnv = { ...process.env, ...inputs.environment };
  if (inputs.addPreviousOutputInEnv ?? true) {
    if (previous.stdout !== "") environment["PULUMI_COMMAND_STDOUT"] = previous.stdout;
    if (previous.stderr !== "") environment["PULUMI_COMMAND_STDERR"] = previous.stderr;
  }
  const hasInput = inputs.stdin !== undefined && inputs.stdin !== "";
  const child = spawn(program, [...rest, command], {
    env: environment,
    stdio: [hasInput ? "pipe" : "ignore", "pipe", "pipe"],
    ...(inputs.dir === undefined ? {} : { cwd: inputs.dir }),
  });
  // A command may end without reading what it was given.
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(inputs.stdin);
  return child;
}

/** Node reports a missing working directory as a missing program. */
function missingFolder(folder: string | undefined): string | undefined {
  if (folder === undefined) return undefined;
  const found = statSync(folder, { throwIfNoEntry: false });
  if (found === undefined) return `chdir ${folder}: no such file or directory`;
  return found.isDirectory() ? undefined : `chdir ${folder}: not a directory`;
}

function describeStartFailure(error: NodeJS.ErrnoException, child: ChildProcess): string {
  const program = child.spawnfile;
  if (error.code === "ENOENT" && !program.includes("/"))
    return `exec: "${program}": executable file not found in $PATH`;
  const reasons: Readonly<Record<string, string>> = {
    ENOENT: "no such file or directory",
    EACCES: "permission denied",
    E2BIG: "argument list too long",
  };
  return `fork/exec ${program}: ${reasons[error.code ?? ""] ?? error.message}`;
}

function describeEnd(status: number | null, endedBy: NodeJS.Signals | null): string | undefined {
  if (endedBy !== null) return `signal: ${SIGNAL_NAMES[endedBy] ?? `signal ${constants.signals[endedBy]}`}`;
  return status === 0 ? undefined : `exit status ${status}`;
}

function withoutLastNewline(chunks: readonly Buffer[]): string {
  return Buffer.concat(chunks).toString().replace(/\n$/, "");
}

/** Cuts both streams of a command, as they come, into lines. Works on bytes: a chunk may end inside a character. */
class LineSplitter {
  private rest: Buffer[] = [];

  constructor(private readonly onLine: (line: string) => void) {}

  push(chunk: Buffer): void {
    let from = 0;
    for (let to = chunk.indexOf("\n"); to !== -1; to = chunk.indexOf("\n", from)) {
      this.emit(chunk.subarray(from, to));
      from = to + 1;
    }
    if (from < chunk.length) this.rest.push(chunk.subarray(from));
  }

  end(): void {
    if (this.rest.length > 0) this.emit(Buffer.alloc(0));
  }

  private emit(last: Buffer): void {
    const line = Buffer.concat([...this.rest, last]).toString();
    this.rest = [];
    this.onLine(line.endsWith("\r") ? line.slice(0, -1) : line);
  }
}
