import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { findEnvironment } from "../environments";
import { CommandError, EXIT } from "../exit";
import type { Home } from "../home";
import { isAlive, thisProcess, type ProcessIdentity } from "../processes";
import type { SettingChange } from "../setting-flags";
import { SettingsFile } from "../settings-file";

/** One run of `tandem ephemeral`: an environment of its own that nobody else has. */
export interface EphemeralRun {
  readonly name: string;
  /** Where it notes that it is; gone when the environment is. */
  readonly folder: string;
  /** Settings file, for `--env`. */
  readonly settings: string;
  /** The environment's workspace. */
  readonly workspace: string;
}

/** The API's port, then those of the services behind it. */
const PORTS = 4;

/**
 * Makes the run's own settings file: those of an environment, with what the command line says, a limited time and ports of its own.
 * @throws CommandError for an environment whose settings are encrypted: another stack can't read them
 */
export async function makeRun(
  home: Home,
  source: string,
  changes: readonly SettingChange[],
  ttl: string,
): Promise<EphemeralRun> {
  const environment = findEnvironment(source);
  const file = SettingsFile.read(environment.source.path);
  if (file.hasSecrets) {
    throw new CommandError(
      `--env: settings of ${environment.name} are encrypted for that environment alone — fix: use a settings file without them, and give them as flags, such as --hub-token`,
      EXIT.usage,
    );
  }
  const base = environment.name.slice(0, 18).replace(/-+$/, "");
  const name = `e-${base}-${Date.now().toString(36)}${randomBytes(3).toString("hex")}`;
  const run = runIn(home, name);
  // Another `tandem` may look for abandoned runs at any moment: to it this one is not there before it has an owner.
  const unowned = join(dirname(run.folder), `.${name}`);
  mkdirSync(unowned, { recursive: true, mode: 0o700 });
  writeFileSync(join(unowned, "owner"), JSON.stringify(thisProcess()), { mode: 0o600 });
  renameSync(unowned, run.folder);
  if (!changes.some(({ path }) => path.join(".") === "port")) file.set(["port"], await freePorts(PORTS));
  file.set(["ttl"], ttl);
  for (const { path, value } of changes.filter(({ isSecret }) => !isSecret)) file.set(path, value);
  file.write(run.settings);
  return run;
}

function runIn(home: Home, name: string): EphemeralRun {
  const folder = join(home.root, "ephemeral", name);
  return { name, folder, settings: join(folder, `Pulumi.${name}.yaml`), workspace: join(home.workspaces, name) };
}

/** Runs whose process was killed and that nobody is ending. */
export function abandonedRuns(home: Home): EphemeralRun[] {
  const parent = join(home.root, "ephemeral");
  if (!existsSync(parent)) return [];
  return readdirSync(parent)
    .filter((name) => !name.startsWith("."))
    .map((name) => runIn(home, name))
    .filter(({ folder }) => ["owner", "watchdog"].every((who) => !lives(join(folder, who))));
}

function lives(file: string): boolean {
  try {
    return isAlive(JSON.parse(readFileSync(file, "utf8")) as ProcessIdentity);
  } catch {
    return false;
  }
}

/** Nothing of the run is left but what the user asked to be kept elsewhere. */
export function forgetRun({ folder, workspace }: EphemeralRun): void {
  rmSync(workspace, { recursive: true, force: true });
  rmSync(folder, { recursive: true, force: true });
}

/** The first of so many free TCP ports in a row, from a random place on: runs at the same time must not meet. */
async function freePorts(count: number): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const first = 20_000 + Math.floor(Math.random() * 10_000);
    const free = await Promise.all(Array.from({ length: count }, (_, index) => isFree(first + index)));
    if (free.every(Boolean)) return first;
  }
  throw new CommandError("no free ports were found on this machine — fix: name one with --port");
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
