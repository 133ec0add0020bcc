import { spawn, type ChildProcess, type StdioOptions } from "node:child_process";
import type { Interruption } from "../interruption";
import type { Watchdog } from "./watchdog";

/** Time that an interrupted command gets before it is killed. */
const GRACE_SECONDS = 10;
/** Time that a command on a terminal gets to end by the Ctrl-C that it has heard itself, before it is told once more. */
const CTRL_C_SECONDS = 5;

export interface ProcessEnd {
  /** As a shell has it: 128 + the signal's number for one that a signal ended; 126 and 127 for one that did not start. */
  readonly code: number;
  readonly stdout: string;
  /** Its last words. */
  readonly words: string;
}

const SIGNAL_NUMBERS: Readonly<Record<string, number>> = { SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGTERM: 15 };

export function signalCode(signal: string): number {
  return 128 + (SIGNAL_NUMBERS[signal] ?? 15);
}

/** How this `tandem` was started; another one is started the same way. */
export function ownCommand(): string[] {
  return [process.execPath, ...process.execArgv, process.argv[1] ?? ""];
}

/**
 * Runs `tandem` in a session of its own, so that the terminal's Ctrl-C does not reach it behind our back. An interruption is passed on
 * unless `isUnstoppable`.
 */
export async function runTandem(
  argv: readonly string[],
  { watchdog, interruption, isUnstoppable = false }: RunOptions,
): Promise<ProcessEnd> {
  const [program = "", ...rest] = ownCommand();
  const child = spawn(program, [...rest, ...argv], { detached: true, stdio: ["ignore", "pipe", "pipe"] });
  const isGone = watchdog.note(child.pid);
  const stop = isUnstoppable ? undefined : interruption.onRequest(() => child.kill("SIGINT"));
  child.stderr.on("data", (data: Buffer | string) => process.stderr.write(data));
  const end = await endOf(child);
  isGone();
  stop?.();
  return end;
}

interface RunOptions {
  readonly watchdog: Watchdog;
  readonly interruption: Interruption;
  readonly isUnstoppable?: boolean;
}

/**
 * Runs the user's command with the terminal's input and output. Ctrl-C comes to it from the terminal itself; other signals are passed
 * on. At the second request, or when it does not end in time, it is killed.
 */
export async function runCommand(
  [program = "", ...argv]: readonly string[],
  env: NodeJS.ProcessEnv,
  { watchdog, interruption }: RunOptions,
): Promise<ProcessEnd> {
  // Without a terminal it gets a process group of its own, so that what it started ends with it.
  const hasTerminal = process.stdin.isTTY;
  const stdio: StdioOptions = ["inherit", "inherit", "inherit"];
  const child = spawn(program, argv, { env, stdio, detached: !hasTerminal });
  const isGone = watchdog.note(child.pid);
  const kill = (signal: NodeJS.Signals) => {
    if (child.pid === undefined) return;
    try {
      process.kill(hasTerminal ? child.pid : -child.pid, signal);
    } catch {
      // It is gone.
    }
  };
  const timers: NodeJS.Timeout[] = [];
  const after = (seconds: number, signal: NodeJS.Signals) =>
    timers.push(setTimeout(() => kill(signal), seconds * 1000));
  const stop = interruption.onRequest(() => {
    if (interruption.isUrgent) kill("SIGKILL");
    // A second signal at once would cut short what the first one has begun.
    else if (hasTerminal && interruption.signal === "SIGINT") after(CTRL_C_SECONDS, "SIGTERM");
    else kill("SIGTERM");
    after(GRACE_SECONDS, "SIGKILL");
  });
  const end = await endOf(child);
  for (const timer of timers) clearTimeout(timer);
  stop();
  if (!hasTerminal) kill("SIGKILL");
  isGone();
  return end;
}

const WORDS_KEPT = 4000;

function endOf(child: ChildProcess): Promise<ProcessEnd> {
  let stdout = "";
  let words = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (words = (words + text).slice(-WORDS_KEPT)));
  return new Promise((resolve) => {
    child.once("error", (error: NodeJS.ErrnoException) => {
      resolve({ code: error.code === "ENOENT" ? 127 : 126, stdout, words: error.message });
    });
    child.once("close", (code, signal) => {
      resolve({ code: code ?? signalCode(signal ?? ""), stdout, words: words.trim() });
    });
  });
}
