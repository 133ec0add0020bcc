import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";

/** How long a holder of the lock may be silent before it counts as killed. It gives a sign of life every half of that. */
const LOCK_STALE_MILLISECONDS = 10_000;
const LOCK_POLL_MILLISECONDS = 500;
/** The longest a run waits for another one's build, which takes 8 minutes on two slow cores. */
const LOCK_WAIT_MILLISECONDS = 30 * 60_000;

/** An end that the user can mend; its message is all that is shown. */
export class EngineError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "EngineError";
  }
}

/** `${XDG_CACHE_HOME:-~/.cache}/tandem/engine`: engines, what is known about them, and our plugin's Pulumi home. */
export function engineCache(environment: NodeJS.ProcessEnv = process.env): string {
  const chosen = environment["XDG_CACHE_HOME"];
  // The XDG specification tells programs to ignore a relative path here.
  const base = chosen !== undefined && isAbsolute(chosen) ? chosen : join(homedir(), ".cache");
  return join(base, "tandem", "engine");
}

/** The folder of this package. The engine is compiled to `dist/`, where it lies one level deeper than in the sources. */
export function packageFolder(): string {
  for (let folder = __dirname; ; folder = dirname(folder)) {
    if (existsSync(join(folder, "package.json"))) return folder;
    if (folder === dirname(folder)) throw new Error(`no package.json above ${__dirname}`);
  }
}

/** What `name` in the cache holds, or `undefined` where it is missing or broken: then it is found out again. */
export function readNote(name: string): unknown {
  try {
    return JSON.parse(readFileSync(join(engineCache(), name), "utf8"));
  } catch {
    return undefined;
  }
}

/** Keeps `value` under `name` in the cache; appears whole or not at all. A disk that can't be written to costs time, no more. */
export function writeNote(name: string, value: unknown): void {
  const path = join(engineCache(), name);
  const draft = `${path}.${process.pid}`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(draft, JSON.stringify(value));
    renameSync(draft, path);
  } catch {
    return;
  }
}

/**
 * Runs `work` while no other run of this user does. The lock of a killed run is taken over after 10 seconds.
 * @throws EngineError when another run holds it for more than half an hour
 */
export async function withLock<T>(log: (line: string) => void, work: () => Promise<T>): Promise<T> {
  // Loaded here alone: it hooks itself into the process's signals, which a warm run has no use for.
  const { lock } = await import("proper-lockfile");
  const folder = engineCache();
  mkdirSync(folder, { recursive: true });
  const giveUpAt = Date.now() + LOCK_WAIT_MILLISECONDS;
  for (let attempt = 0; ; attempt++) {
    try {
      const release = await lock(folder, {
        stale: LOCK_STALE_MILLISECONDS,
        realpath: false,
        lockfilePath: join(folder, "lock"),
        // After a pause of the whole machine another run may have taken over: both then write the same bytes.
        onCompromised: () => log("another run took over the preparation of the engine"),
      });
      try {
        return await work();
      } finally {
        await release().catch(() => undefined);
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ELOCKED") throw error;
    }
    if (Date.now() > giveUpAt) {
      throw new EngineError(
        `another run has been preparing the Pulumi engine for ${LOCK_WAIT_MILLISECONDS / 60_000} minutes — fix: end it, or remove ${join(folder, "lock")}`,
      );
    }
    if (attempt === 0) log("another run is preparing the Pulumi engine: waiting for it");
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MILLISECONDS));
  }
}
