import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { durationSeconds } from "../../plan/time";
import { outputVariables, type Outputs } from "../../stacks/outputs";
import type { Console } from "../console";
import { CommandError, EXIT, messageOf } from "../exit";
import { keepArtifacts } from "../ephemeral/artifacts";
import { ownCommand, type ProcessEnd, runCommand, runTandem, signalCode } from "../ephemeral/processes";
import { readAnswer } from "../ephemeral/answer";
import { abandonedRuns, forgetRun, makeRun, type EphemeralRun } from "../ephemeral/run";
import { type Phase, type Summary, writeJson, writeJunit } from "../ephemeral/summary";
import { openTunnels } from "../ephemeral/tunnels";
import { MARK_VARIABLE, startWatchdog, type Watchdog } from "../ephemeral/watchdog";
import { openHome } from "../home";
import { Interruption } from "../interruption";
import { settingChanges, type SettingChange } from "../setting-flags";
import { ProblemsError } from "../../plan/problem";
import type { SettingOptions } from "./options";

export interface EphemeralOptions extends SettingOptions {
  readonly ttl?: string;
  readonly keepOnFailure?: string;
  readonly artifacts?: string;
  readonly junit?: string;
  /** File of the JSON summary. */
  readonly summary?: string;
  readonly backend?: string;
}

/** Exit statuses of our own failures; everything else is the command's. */
export const EPHEMERAL_EXIT = {
  /** Something of the environment may be left, though the command passed. */
  notGone: 124,
  /** The environment did not come up. */
  notUp: 125,
} as const;

const DEFAULT_TTL = "2h";
/** A host that is away for a moment, or an API that is down. */
const DESTROY_TRIES = 4;
const DESTROY_PAUSE_SECONDS = 5;

interface Context {
  readonly run: EphemeralRun;
  readonly options: EphemeralOptions;
  readonly console: Console;
  readonly interruption: Interruption;
  readonly watchdog: Watchdog;
  readonly phases: Phase[];
  /** When the environment ends by itself, in milliseconds since 1970. */
  readonly endsAt: number;
  /** Flags that `up` gets: secrets are in no file. */
  readonly secretFlags: readonly string[];
}

/**
 * `tandem ephemeral -- COMMAND`: an environment of its own, the command with the environment's outputs, and the environment away again,
 * whatever happened. @returns the exit status
 */
export async function ephemeral(
  command: readonly string[],
  options: EphemeralOptions,
  console: Console,
): Promise<number> {
  const ttl = options.ttl ?? DEFAULT_TTL;
  const ttlSeconds = secondsOf("--ttl", ttl);
  const keepSeconds = options.keepOnFailure === undefined ? 0 : secondsOf("--keep-on-failure", options.keepOnFailure);
  const { changes, problems } = settingChanges({ ...options, ttl: undefined }, options.set);
  if (problems.length > 0) throw new ProblemsError(problems);
  const home = openHome();
  for (const left of abandonedRuns(home)) {
    console.say(
      `the run ${left.name} was killed: its environment is being taken away, see ${left.folder}/watchdog.log`,
    );
    startWatchdog(left, ownCommand(), true);
  }
  const run = await makeRun(home, options.env, changes, ttl);
  const secretFlags = changes.filter(({ isSecret }) => isSecret).flatMap((change) => secretFlag(run, change));
  const startedAt = new Date();
  const interruption = new Interruption(console.say);
  let signal: NodeJS.Signals | undefined;
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => (signal ??= name));
  const watchdog = startWatchdog(run, ownCommand());
  // Inherited by all that is started from here on.
  process.env[MARK_VARIABLE] = run.name;
  const endsAt = startedAt.getTime() + ttlSeconds * 1000;
  const context: Context = { run, options, console, interruption, watchdog, phases: [], endsAt, secretFlags };
  console.say(`environment ${run.name}, gone at ${new Date(endsAt).toISOString()} at the latest`);
  let code = await upAndCommand(context, command);
  // What comes later only ends a wait: the status stays the command's.
  if (signal !== undefined) code = signalCode(signal);
  if (keepSeconds > 0 && isWorthKeeping(context.phases, code) && !interruption.isRequested)
    await keep(context, keepSeconds);
  const isGone = await destroy(context, isMistake(context.phases, code));
  if (code === 0 && !isGone) code = EPHEMERAL_EXIT.notGone;
  report(context, { command, code, startedAt, isGone });
  return code;
}

/** Other users see a command line: `up` reads a secret from a file that goes with the run. */
function secretFlag({ folder }: EphemeralRun, { path, value }: SettingChange): string[] {
  const name = path.join(".");
  const file = join(folder, `secret-${name}`);
  writeFileSync(file, String(value), { mode: 0o600 });
  return ["--set", `${name}=@${file}`];
}

function secondsOf(flag: string, text: string): number {
  const seconds = durationSeconds(text);
  if (seconds !== undefined) return seconds;
  throw new CommandError(
    `${flag}: not a duration — got ${text} — allowed: minutes, hours or days, such as 90m, 2h or 1d`,
    EXIT.usage,
  );
}

async function upAndCommand(context: Context, command: readonly string[]): Promise<number> {
  const { run, options, phases, interruption, console } = context;
  const flags = ["--yes", "--json", "--show-secrets", ...context.secretFlags, ...backendOf(options)];
  const up = await timed(() => runTandem(["up", "--env", run.settings, ...flags], context));
  const { outputs, failure } = readAnswer(up.end);
  phases.push({ name: "up", ...verdictOf(up), ...(outputs === undefined && { detail: failure ?? up.end.words }) });
  if (outputs === undefined || interruption.isRequested) {
    if (failure !== undefined && !interruption.isRequested) console.say(failure);
    phases.push({ name: "command", status: "skipped", seconds: 0, detail: "the environment did not come up" });
    // Mistakes in the settings have statuses of their own, as with `tandem up`; no host has anything to say of them.
    const { code } = up.end;
    if (code === EXIT.usage || code === EXIT.doesNotFit) {
      await collect(context, undefined, undefined);
      return code;
    }
    await collect(context, undefined, failure ?? up.end.words);
    return EPHEMERAL_EXIT.notUp;
  }
  let code: number = EPHEMERAL_EXIT.notUp;
  const tunnels = await openTunnels(run, outputs, console.say).catch((error: unknown) => messageOf(error));
  if (typeof tunnels === "string") {
    phases.push({ name: "command", status: "failed", seconds: 0, detail: tunnels });
    console.say(tunnels);
  } else {
    const areGone = tunnels.map(({ processId }) => context.watchdog.note(processId));
    const ran = await timed(() => runCommand(command, environmentFor(context, outputs), context));
    code = ran.end.code;
    const detail = ran.end.words === "" ? `exit ${code}` : ran.end.words;
    phases.push({ name: "command", ...verdictOf(ran), ...(code !== 0 && { detail }) });
    if (code !== 0) console.say(`the command failed: ${detail}`);
    await Promise.all(tunnels.map((tunnel) => tunnel.close()));
    for (const isGone of areGone) isGone();
  }
  await collect(context, outputs, code === 0 ? undefined : `the command ended with ${code}: ${command.join(" ")}`);
  return code;
}

function backendOf({ backend }: EphemeralOptions): string[] {
  return backend === undefined ? [] : ["--backend", backend];
}

async function timed(work: () => Promise<ProcessEnd>): Promise<{ end: ProcessEnd; seconds: number }> {
  const startedAt = Date.now();
  const end = await work();
  return { end, seconds: (Date.now() - startedAt) / 1000 };
}

function verdictOf({ end, seconds }: { end: ProcessEnd; seconds: number }): Pick<Phase, "status" | "seconds"> {
  return { status: end.code === 0 ? "passed" : "failed", seconds };
}

/** Ours, the outputs, and a file with all of them for the user alone. */
function environmentFor({ run }: Context, outputs: Outputs): NodeJS.ProcessEnv {
  const file = join(run.folder, "outputs.json");
  writeFileSync(file, JSON.stringify(outputs, null, 2), { mode: 0o600 });
  return { ...process.env, ...outputVariables(outputs), TANDEM_OUTPUTS: file, TANDEM_ENV: run.settings };
}

async function collect(context: Context, outputs: Outputs | undefined, failure: string | undefined): Promise<void> {
  const { run, options, console, interruption } = context;
  // Who interrupts wants an end, and what explains a failure takes its time.
  const explained = interruption.isRequested ? undefined : failure;
  if (interruption.isUrgent || (options.artifacts === undefined && explained === undefined)) return;
  try {
    const kept = await keepArtifacts({ run, folder: options.artifacts, outputs, failure: explained, context });
    for (const line of kept) console.say(line);
  } catch (error) {
    console.say(`not everything could be kept: ${messageOf(error)}`);
  }
}

/** Nothing is there to be looked at when a mistake in the settings was found before anything was made. */
function isWorthKeeping(phases: readonly Phase[], code: number): boolean {
  return phases.some(({ name, status }) => name === "command" && status === "failed") || code === EPHEMERAL_EXIT.notUp;
}

/** Time for the user to look; any interruption ends it. The environment's own end comes first. */
async function keep({ run, console, interruption, endsAt }: Context, keepSeconds: number): Promise<void> {
  const now = Date.now();
  const milliseconds = Math.max(0, Math.min(keepSeconds * 1000, endsAt - now));
  const until = new Date(now + milliseconds).toISOString();
  console.say(
    `it failed: the environment is kept until ${until}\n  look: tandem status --env ${run.settings}, tandem logs --env ${run.settings}\n  end it now: Ctrl-C, or kill ${process.pid}`,
  );
  await interruption.guard(sleep(milliseconds)).catch(() => undefined);
}

/** Whether `up` refused what it was asked for before it made anything. */
function isMistake(phases: readonly Phase[], code: number): boolean {
  const ran = phases.some(({ name, status }) => name === "command" && status !== "skipped");
  return !ran && (code === EXIT.usage || code === EXIT.doesNotFit);
}

/**
 * @param madeNothing whether nothing was made: what can't be asked then has nothing of the run either
 * @returns whether everything is proven to be gone
 */
async function destroy(context: Context, madeNothing: boolean): Promise<boolean> {
  const { run, options, phases, console, watchdog } = context;
  const startedAt = Date.now();
  for (let attempt = 1; ; attempt++) {
    const argv = ["destroy", "--env", run.settings, "--yes", ...backendOf(options)];
    const end = await runTandem(argv, { ...context, isUnstoppable: true });
    const seconds = (Date.now() - startedAt) / 1000;
    if (end.code === 0 || madeNothing) {
      phases.push({ name: "destroy", status: end.code === 0 ? "passed" : "skipped", seconds });
      if (end.code !== 0) console.say("this run has made nothing, so nothing of it can be left");
      watchdog.release();
      forgetRun(run);
      return true;
    }
    if (attempt === DESTROY_TRIES) {
      phases.push({ name: "destroy", status: "failed", seconds, detail: end.words });
      watchdog.release();
      console.say(
        `NOT everything of ${run.name} is gone — fix: tandem destroy --env ${run.settings}; what is rented ends by itself, and tandem reap removes the rest`,
      );
      return false;
    }
    console.say(`destroy failed, once more in ${DESTROY_PAUSE_SECONDS * attempt} s`);
    await sleep(DESTROY_PAUSE_SECONDS * attempt * 1000);
  }
}

interface End {
  readonly command: readonly string[];
  readonly code: number;
  readonly startedAt: Date;
  readonly isGone: boolean;
}

function report({ run, options, phases, console }: Context, { command, code, startedAt, isGone }: End): void {
  const summary: Summary = {
    version: 1,
    name: run.name,
    command,
    exitStatus: code,
    startedAt: startedAt.toISOString(),
    phases,
    isGone,
  };
  try {
    if (options.summary !== undefined) writeJson(options.summary, summary);
    if (options.junit !== undefined) writeJunit(options.junit, summary);
    if (options.artifacts !== undefined) writeJson(join(options.artifacts, "summary.json"), summary);
  } catch (error) {
    console.say(`the summary could not be written: ${messageOf(error)}`);
  }
  const parts = phases.map(({ name, status, seconds }) => `${name} ${status} (${seconds.toFixed(0)} s)`).join(", ");
  console.say(`${run.name}: ${parts}; ${isGone ? "nothing of it is left" : "something may be left"}`);
}
