import { execFile } from "node:child_process";
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { basename, delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { gte, SemVer, valid } from "semver";
import { buildCli, builtCliFolder } from "./build";
import { engineCache, EngineError, readNote, withLock, writeNote } from "./cache";
import { downloadsReachable, rememberUnreachable } from "./reach";

/** The engine that Tandem is tested with: downloaded, or built from the same version's source. */
export const PINNED_VERSION = new SemVer("3.274.1");
/**
 * The oldest `pulumi` on PATH that is taken: the version of the SDK that Tandem is built on. SDK and CLI are released
 * together under one number, and nobody tries a new SDK on an older CLI.
 */
export const OLDEST_VERSION = "3.270.0";
/** `pulumi version` takes 0.1 s; a minute is for a disk under load. */
const VERSION_LIMIT_MILLISECONDS = 60_000;
const DOWNLOAD_PREFIX = ".download-";
const VERSIONS_NOTE = "versions.json";

export interface PulumiCli {
  /** Holds `bin/pulumi`, as the Automation API wants it. */
  readonly root: string;
  readonly path: string;
  readonly version: string;
  readonly source: "path" | "download" | "built";
}

/**
 * The Pulumi CLI: on PATH and new enough, else in the cache, else Pulumi's own download, else built from Go modules.
 * Starts no process once the answer is known.
 * @throws EngineError when there is none and none can be had, with what to install
 */
export async function findPulumiCli(log: (line: string) => void): Promise<PulumiCli> {
  const onPath = await findOnPath(log);
  if (onPath !== undefined) return onPath;
  return findCached() ?? withLock(log, async () => findCached() ?? (await download(log)) ?? build(log));
}

function findCached(): PulumiCli | undefined {
  for (const [root, source] of [
    [downloadFolder(), "download"],
    [builtCliFolder(), "built"],
  ] as const) {
    const path = join(root, "bin", "pulumi");
    if (existsSync(path)) return { root, path, version: PINNED_VERSION.version, source };
  }
  return undefined;
}

async function findOnPath(log: (line: string) => void): Promise<PulumiCli | undefined> {
  const path = executableOnPath("pulumi");
  if (path === undefined) return undefined;
  const version = await versionOf(path);
  if (version === undefined) {
    log(`the pulumi on PATH does not run, so it is not used: ${path}`);
    return undefined;
  }
  if (!gte(version, OLDEST_VERSION) || new SemVer(version).major > PINNED_VERSION.major) {
    const fix = "fix: upgrade it, or leave it: Tandem gets its own";
    log(`the pulumi on PATH is not used — got ${version} — allowed: ${OLDEST_VERSION} or newer, below 4 — ${fix}`);
    return undefined;
  }
  return { root: rootOf(path), path, version, source: "path" };
}

/** The folder above `bin/pulumi`; a CLI that lies elsewhere (a distribution's, a version manager's) gets a link in the cache. */
function rootOf(path: string): string {
  const real = realpathSync(path);
  const isUsual = basename(real) === "pulumi" && basename(dirname(real)) === "bin";
  if (isUsual) return dirname(dirname(real));
  const root = join(engineCache(), "on-path");
  const link = join(root, "bin", "pulumi");
  if (existsSync(link) && realpathSync(link) === real) return root;
  mkdirSync(dirname(link), { recursive: true });
  const draft = `${link}.${process.pid}`;
  rmSync(draft, { force: true });
  symlinkSync(real, draft);
  renameSync(draft, link);
  return root;
}

/** Asked once for each binary: a file of the same size and time is the same. */
async function versionOf(path: string): Promise<string | undefined> {
  const { size, mtimeMs } = statSync(path);
  const known = (readNote(VERSIONS_NOTE) ?? {}) as Record<string, { size: number; mtimeMs: number; version: string }>;
  const note = known[path];
  if (note?.size === size && note.mtimeMs === mtimeMs) return note.version;
  try {
    const { stdout } = await promisify(execFile)(path, ["version"], {
      timeout: VERSION_LIMIT_MILLISECONDS,
      env: { ...process.env, PULUMI_SKIP_UPDATE_CHECK: "true" },
    });
    const version = valid(stdout.trim()) ?? undefined;
    if (version !== undefined) writeNote(VERSIONS_NOTE, { ...known, [path]: { size, mtimeMs, version } });
    return version;
  } catch {
    return undefined;
  }
}

function downloadFolder(): string {
  return join(engineCache(), `v${PINNED_VERSION.version}`);
}

/** Runs under the lock. Whatever goes wrong, building is still left. */
async function download(log: (line: string) => void): Promise<PulumiCli | undefined> {
  if (!(await downloadsReachable())) return undefined;
  for (const name of readdirSync(engineCache())) {
    // Left by a run that was killed: nobody else is downloading while this one holds the lock.
    if (name.startsWith(DOWNLOAD_PREFIX)) rmSync(join(engineCache(), name), { recursive: true, force: true });
  }
  log(`downloading the Pulumi engine ${PINNED_VERSION.version}, once`);
  const draft = mkdtempSync(join(engineCache(), DOWNLOAD_PREFIX));
  try {
    // Loaded here alone: the Automation API takes 0.3 s to load.
    const { PulumiCommand } = await import("@pulumi/pulumi/automation/index.js");
    await PulumiCommand.install({ root: draft, version: PINNED_VERSION, skipVersionCheck: true });
    rmSync(downloadFolder(), { recursive: true, force: true });
    renameSync(draft, downloadFolder());
    return findCached();
  } catch (error) {
    rememberUnreachable();
    log(`Pulumi's download failed: ${firstLine(error)}`);
    return undefined;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

async function build(log: (line: string) => void): Promise<PulumiCli> {
  const go = executableOnPath("go");
  if (go === undefined) {
    throw new EngineError(
      `there is no Pulumi engine on this machine and Pulumi's download can't be reached — allowed: pulumi ${OLDEST_VERSION} or newer on PATH — fix: install Pulumi (pulumi.com/docs/install), or put Go 1.26 or newer on PATH, with which Tandem builds it`,
    );
  }
  const root = await buildCli(go, PINNED_VERSION.version, log);
  return { root, path: join(root, "bin", "pulumi"), version: PINNED_VERSION.version, source: "built" };
}

function executableOnPath(name: string): string | undefined {
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    const found = folder === "" ? undefined : executable(join(folder, name));
    if (found !== undefined) return found;
  }
  return undefined;
}

function executable(path: string): string | undefined {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile() ? path : undefined;
  } catch {
    return undefined;
  }
}

function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.trim().split("\n")[0] ?? text;
}
