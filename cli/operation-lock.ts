import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { CommandError, EXIT } from "./exit";
import { isAlive, thisProcess, type ProcessIdentity } from "./processes";

interface Holder extends ProcessIdentity {
  readonly command: string;
  readonly host: string;
  /** ISO 8601. */
  readonly since: string;
}

/**
 * The right to change one environment: one `tandem` at a time. Pulumi's own lock covers the engine only; this one covers
 * the settings file, what is cleared before the engine runs, and the host afterwards.
 */
export class OperationLock {
  private constructor(private readonly path: string) {}

  /**
   * @throws CommandError (busy) that names the process which holds it
   */
  static take(folder: string, command: string, say: (line: string) => void): OperationLock {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const path = join(folder, "lock");
    const draft = `${path}.${process.pid}`;
    const self: Holder = { ...thisProcess(), command, host: hostname(), since: new Date().toISOString() };
    // The name appears with its content and only if it is free.
    writeFileSync(draft, JSON.stringify(self), { mode: 0o600 });
    try {
      for (;;) {
        if (tryLink(draft, path)) return new OperationLock(path);
        const holder = readHolder(path);
        if (holder === undefined) continue;
        if (holder.host !== hostname() || isAlive(holder)) throw busy(holder);
        if (removeIfHeldBy(path, holder)) {
          say(
            `tandem ${holder.command} of ${localTime(holder.since)} (process ${holder.processId}) was killed: its lock is cleared`,
          );
        }
      }
    } finally {
      rmSync(draft, { force: true });
    }
  }

  /** Whether somebody holds it now, without taking it. */
  static holder(folder: string): string | undefined {
    const holder = readHolder(join(folder, "lock"));
    return holder !== undefined && holder.host === hostname() && isAlive(holder) ? describe(holder) : undefined;
  }

  release(): void {
    rmSync(this.path, { force: true });
  }
}

function tryLink(draft: string, path: string): boolean {
  try {
    linkSync(draft, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function readHolder(path: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as Holder;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new CommandError(
      `the lock ${path} can't be read: ${String(error)} — fix: remove it if no tandem runs`,
      EXIT.busy,
    );
  }
}

/** Two runs may find the same dead holder: the one that is late must not remove the lock of the one that was quick. */
function removeIfHeldBy(path: string, expected: Holder): boolean {
  const aside = `${path}.stale.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
  const moved = readHolder(aside);
  const isExpected = moved?.processId === expected.processId && moved.startTicks === expected.startTicks;
  if (!isExpected) tryLink(aside, path);
  rmSync(aside, { force: true });
  return isExpected;
}

function busy(holder: Holder): CommandError {
  return new CommandError(
    `${describe(holder)} changes this environment already — fix: wait for it, or press Ctrl-C there (kill -INT ${holder.processId})`,
    EXIT.busy,
    { holder },
  );
}

function describe({ command, processId, host, since }: Holder): string {
  const where = host === hostname() ? "" : ` on ${host}`;
  return `tandem ${command} (process ${processId}${where}, since ${localTime(since)})`;
}

export function localTime(iso: string): string {
  const time = new Date(iso);
  const isToday = time.toDateString() === new Date().toDateString();
  return isToday ? time.toLocaleTimeString("en-GB") : time.toLocaleString("en-GB");
}
