import { existsSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { z } from "zod";
import { parse, stringify } from "yaml";
import { PROJECT, type Environment } from "./environments";
import { CommandError, EXIT } from "./exit";
import { homeFolder } from "./home";
import { localTime } from "./operation-lock";
import { environmentVariableOf, findProcesses, isAlive, signalProcess, startTicksOf, waitForEnd } from "./processes";

/** Marks the engine's processes with the `tandem` that started them: `<pid>/<start>`. */
export const CLIENT_VARIABLE = "TANDEM_ENGINE_CLIENT";
/** The folder of the environment that an engine works for. */
export const WORKSPACE_VARIABLE = "TANDEM_WORKSPACE";
/** Time for an engine whose `tandem` was killed to write its state and go, in seconds. */
const ENGINE_END_SECONDS = 20;

/** Where Pulumi keeps the state of an environment. */
export interface Backend {
  readonly url: string;
  /** What decided, for people: a flag, a variable, the project file, or nothing. */
  readonly source: "--backend" | "TANDEM_BACKEND" | "PULUMI_BACKEND_URL" | "project" | "default";
}

/** Flag, then variables, then what the environment's `Pulumi.yaml` says, then the folder of our own. */
export function findBackend(environment: Environment, flag?: string): Backend {
  if (flag !== undefined) return { url: requireUrl(flag, "--backend"), source: "--backend" };
  for (const source of ["TANDEM_BACKEND", "PULUMI_BACKEND_URL"] as const) {
    const value = process.env[source];
    if (value !== undefined && value !== "") return { url: requireUrl(value, source), source };
  }
  const saved = savedBackend(environment);
  if (saved !== undefined) return { url: saved, source: "project" };
  return { url: pathToFileURL(join(homeFolder(), "backend")).href, source: "default" };
}

/** What `Pulumi.yaml` of the environment says, if it is there. */
export function savedBackend(environment: Environment): string | undefined {
  const path = projectFile(environment);
  if (!existsSync(path)) return undefined;
  return (parse(readFileSync(path, "utf8")) as { backend?: { url?: string } } | null)?.backend?.url;
}

/** The project file of the environment; it remembers a backend other than our own. */
export function projectSettings(backend: Backend | undefined): string {
  return stringify({
    name: PROJECT,
    description: "Made by tandem; the settings are in the file beside it.",
    runtime: "nodejs",
    ...(backend === undefined || backend.source === "default" ? {} : { backend: { url: backend.url } }),
  });
}

export function projectFile(environment: Environment): string {
  return join(environment.folder, "Pulumi.yaml");
}

function requireUrl(value: string, source: string): string {
  if (/^(file|s3|gs|azblob|postgres|https?):\/\//.test(value)) return value;
  throw new CommandError(
    `${source}: not a Pulumi backend — got ${value} — allowed: file:///folder, s3://, gs://, azblob://, postgres:// or https://api.pulumi.com — fix: a folder is file://${value.startsWith("/") ? value : `$PWD/${value}`}`,
    EXIT.usage,
  );
}

/** The folder of a `file://` backend; undefined for others. */
function fileFolder({ url }: Backend): string | undefined {
  if (!url.startsWith("file://")) return undefined;
  const path = url.slice("file://".length);
  if (path.startsWith("~")) return join(process.env["HOME"] ?? "", path.slice(1));
  return path.startsWith("/") ? fileURLToPath(url) : undefined;
}

/** Whether the backend holds a stack for the environment; undefined when only Pulumi can tell. */
export function stackExists(backend: Backend, name: string): boolean | undefined {
  const folder = fileFolder(backend);
  if (folder === undefined) return undefined;
  return existsSync(stateFile(folder, name)) || existsSync(`${stateFile(folder, name)}.gz`);
}

/** Whether the state remembers work that nobody saw the end of; undefined when only Pulumi can tell. */
export function hasPendingOperations(backend: Backend, name: string): boolean | undefined {
  const folder = fileFolder(backend);
  if (folder === undefined || existsSync(`${stateFile(folder, name)}.gz`)) return undefined;
  if (!existsSync(stateFile(folder, name))) return false;
  const state = JSON.parse(readFileSync(stateFile(folder, name), "utf8")) as {
    checkpoint?: { latest?: { pending_operations?: unknown[] } };
  };
  return (state.checkpoint?.latest?.pending_operations?.length ?? 0) > 0;
}

function stateFile(folder: string, name: string): string {
  return join(folder, ".pulumi", "stacks", PROJECT, `${name}.json`);
}

const lockSchema = z.object({ pid: z.int(), username: z.string(), hostname: z.string(), timestamp: z.string() });

/**
 * Clears what killed runs left in a `file://` backend: an engine whose `tandem` is dead is ended, a lock whose process is
 * dead on this machine is removed; both are said aloud. Call it with the environment's OperationLock held.
 * @throws CommandError (busy) when a living engine of somebody else holds the stack
 */
export async function clearStaleLocks(
  backend: Backend,
  { name, folder: workspace }: Environment,
  say: (line: string) => void,
): Promise<void> {
  await endOrphanedEngines(workspace, say);
  const folder = fileFolder(backend);
  if (folder === undefined) return;
  const locks = join(folder, ".pulumi", "locks", "organization", PROJECT, name);
  if (!existsSync(locks)) return;
  for (const entry of readdirSync(locks).filter((file) => file.endsWith(".json"))) {
    const path = join(locks, entry);
    const text = readIfThere(path);
    // Whoever held it is just done.
    if (text === undefined) continue;
    const lock = lockSchema.safeParse(parse(text));
    if (lock.success && holdsStill(lock.data)) throw engineBusy(lock.data, path);
    rmSync(path, { force: true });
    const holder = lock.success
      ? `process ${lock.data.pid} of ${localTime(lock.data.timestamp)}`
      : "an unreadable entry";
    say(`the state was locked by ${holder}, which runs no more: its lock is cleared`);
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function holdsStill({ pid, hostname: host, timestamp }: z.infer<typeof lockSchema>): boolean {
  if (host !== hostname()) return true;
  return isAlive({ processId: pid, startTicks: "" }) && !startedAfter(pid, timestamp);
}

/** A process that is younger than the lock got the number of the dead one that took it. */
function startedAfter(processId: number, timestamp: string): boolean {
  const ticks = Number(startTicksOf(processId));
  if (!Number.isFinite(ticks)) return false;
  const uptimeSeconds = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
  // Linux reports these times in 1/100 s whatever the kernel's own clock (USER_HZ).
  const startedAt = Date.now() - (uptimeSeconds - ticks / 100) * 1000;
  return startedAt > Date.parse(timestamp) + 2000;
}

/** `kill -9` of `tandem` leaves its engine behind; it can't finish, but may hold the stack for a while. */
async function endOrphanedEngines(workspace: string, say: (line: string) => void): Promise<void> {
  const orphans = findProcesses("pulumi", CLIENT_VARIABLE, isOfDeadClient).filter(
    (processId) => environmentVariableOf(processId, WORKSPACE_VARIABLE) === workspace,
  );
  if (orphans.length === 0) return;
  say(`an engine of a killed tandem still runs (process ${orphans.join(", ")}): ending it`);
  for (const processId of orphans) signalProcess(processId, "SIGINT");
  if (await waitForEnd(orphans, ENGINE_END_SECONDS)) return;
  for (const processId of orphans) signalProcess(processId, "SIGKILL");
  await waitForEnd(orphans, 5);
}

function isOfDeadClient(client: string): boolean {
  const [processId, startTicks] = client.split("/");
  return !isAlive({ processId: Number(processId), startTicks: startTicks ?? "" });
}

function engineBusy(lock: z.infer<typeof lockSchema>, path: string): CommandError {
  const since = `since ${localTime(lock.timestamp)}`;
  if (lock.hostname !== hostname()) {
    return new CommandError(
      `the state is locked by ${lock.username} on ${lock.hostname} (process ${lock.pid}, ${since}) — fix: wait for it; if it is dead, remove ${path}`,
      EXIT.busy,
      { holder: lock },
    );
  }
  return new CommandError(
    `the state is locked by a Pulumi engine of ${lock.username} (process ${lock.pid}, ${since}) — fix: wait for it, or end it with kill -INT ${lock.pid}`,
    EXIT.busy,
    { holder: lock },
  );
}

/**
 * Forgets a stack without reading it, for a passphrase that is lost: its files are set aside under another name.
 * @returns whether there was one
 * @throws CommandError for a backend that is no folder
 */
export function forgetStack(backend: Backend, name: string): boolean {
  const folder = fileFolder(backend);
  if (folder === undefined) {
    throw new CommandError(
      `--forget works on a file:// backend — got ${backend.url} — fix: pulumi stack rm --force ${name}`,
      EXIT.usage,
    );
  }
  const files = [".json", ".json.gz"].map((ending) => join(folder, ".pulumi", "stacks", PROJECT, `${name}${ending}`));
  const present = files.filter((file) => existsSync(file));
  for (const file of present) renameSync(file, `${file}.forgotten-${Date.now()}`);
  return present.length > 0;
}
