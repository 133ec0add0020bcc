import { existsSync } from "node:fs";
import type { PulumiFn, Stack } from "@pulumi/pulumi/automation";
import { stopWork } from "../bootstrap/runner/host";
import { clearStaleLocks, findBackend, savedBackend, stackExists, type Backend } from "./backend";
import type { Console } from "./console";
import { clearPendingOperations, killEngine, openEngine, openStack, readConfig, type Engine } from "./engine";
import { environmentTargets } from "./environment-hosts";
import { findEnvironment, makeWorkspace, type Environment } from "./environments";
import { messageOf } from "./exit";
import { openHome, type Home } from "./home";
import { Interrupted, Interruption } from "./interruption";
import { OperationLock } from "./operation-lock";
import { endChildren } from "./processes";
import { RunLog } from "./run-log";
import { SettingsFile } from "./settings-file";

/** What a command that changes an environment works with. */
export interface Session {
  readonly home: Home;
  readonly environment: Environment;
  readonly backend: Backend;
  readonly interruption: Interruption;
  readonly console: Console;
  /** What an interruption must undo beside the usual; added to while the command runs. */
  readonly afterInterruption: (() => Promise<void>)[];
}

/**
 * Runs a command that changes an environment: alone, with the user's Ctrl-C turned into an orderly end. Whatever happens,
 * afterwards no lock is held; after an interruption no work of the stack goes on, on this machine or a host.
 */
export async function withSession<Result>(
  command: string,
  options: { readonly env: string; readonly backend?: string },
  console: Console,
  work: (session: Session) => Promise<Result>,
): Promise<Result> {
  const environment = findEnvironment(options.env);
  const backend = findBackend(environment, options.backend);
  const home = openHome();
  const interruption = new Interruption(console.say);
  const lock = OperationLock.take(environment.folder, command, console.say);
  const session: Session = { home, environment, backend, interruption, console, afterInterruption: [] };
  try {
    return await work(session);
  } catch (error) {
    if (interruption.isRequested) await endEverything(session);
    throw interruption.isRequested ? new Interrupted() : error;
  } finally {
    lock.release();
  }
}

/** After an interruption: no engine, no lock of it, no detached work on the host. */
async function endEverything({ environment, backend, console, afterInterruption }: Session): Promise<void> {
  try {
    await killEngine();
    endChildren();
    await clearStaleLocks(backend, environment, console.say);
    await Promise.all(environmentTargets(environment).map((target) => stopWork(target, environment.name, console.say)));
    for (const undo of afterInterruption) await undo();
    console.say("interrupted: nothing goes on. Continue with `tandem up`, take all away with `tandem destroy`");
  } catch (error) {
    const fix = `tandem destroy --env ${environment.name}`;
    console.say(`interrupted, but not everything could be ended: ${messageOf(error)} — fix: ${fix}`);
  }
}

/** An engine with the environment's stack open, and where its run is logged. */
export interface OpenedStack {
  readonly engine: Engine;
  readonly stack: Stack;
  readonly log: RunLog;
}

export interface OpenOptions {
  readonly command: string;
  readonly program?: PulumiFn;
  /** Make the stack if there is none. */
  readonly create: boolean;
}

/**
 * Gets the engine and opens the stack after clearing what killed runs left.
 * @returns undefined when there is no stack and none is to be made
 */
export async function openForChange(session: Session, options: OpenOptions): Promise<OpenedStack | undefined> {
  const { home, environment, backend, interruption, console } = session;
  sayBackendChange(session);
  makeWorkspace(home, environment);
  const keepBackend = options.command === "up";
  const engine = await interruption.guard(openEngine({ home, environment, backend, say: console.say, keepBackend }));
  console.say(`engine: ${engine.summary}`);
  await clearStaleLocks(backend, environment, console.say);
  const stack = await interruption.guard(openStack(engine, options.program, options.create));
  if (stack === undefined) return undefined;
  await interruption.guard(clearPendingOperations(engine, stack, console.say));
  return { engine, stack, log: new RunLog(environment.logs, options.command) };
}

/** The stack leaves the backend; its settings file stays for the next `up`. */
export async function removeStack({ engine }: OpenedStack, name: string): Promise<void> {
  await engine.workspace.removeStack(name, { preserveConfig: true });
}

/**
 * What the settings hold encrypted, in the clear, by full key. Starts the engine only where there is something: most
 * environments have no secret of the user's.
 */
export async function decryptSettings(session: Session): Promise<Record<string, string>> {
  const { home, environment, backend, interruption, console } = session;
  const mayHaveSecrets = existsSync(environment.file) && SettingsFile.read(environment.file).hasSecrets;
  if (!mayHaveSecrets || stackExists(backend, environment.name) === false) return {};
  const engine = await interruption.guard(openEngine({ home, environment, backend, say: console.say }));
  const stack = await interruption.guard(openStack(engine, undefined, false));
  if (stack === undefined) return {};
  const config = await interruption.guard(readConfig(engine, stack));
  return Object.fromEntries(
    Object.entries(config).flatMap(([key, { value, secret }]) => (secret === true ? [[key, value]] : [])),
  );
}

/** A stack that seems to vanish frightens people: say where the other one is. */
function sayBackendChange({ environment, backend, console }: Session): void {
  const before = existsSync(environment.folder) ? savedBackend(environment) : undefined;
  if (before === undefined || before === backend.url) return;
  if (stackExists(backend, environment.name) === true) return;
  console.say(
    `the state of this environment was kept in ${before} until now; it stays there, ${backend.url} is used from here on`,
  );
}
