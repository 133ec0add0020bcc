import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { packageRoot } from "../bootstrap/runner/package-root";
import { nearestName } from "../plan/nearest";
import { CommandError, EXIT } from "./exit";
import { homeFolder, type Home } from "./home";
import { SettingsFile } from "./settings-file";

/** Pulumi's project of every stack of ours. */
export const PROJECT = "tandem";
/** Lower-case letters, digits and dashes: the name is also the stack's id on its hosts, in folders and in units. */
const NAME = /^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$/;
const ALLOWED = "lower-case letters, digits and dashes, 40 at most";

/** One environment: a name, where its settings come from, and where they are kept. */
export interface Environment {
  readonly name: string;
  /** Folder of this environment in the user's workspace; not there before the first `up`. */
  readonly folder: string;
  /** The workspace's own settings file, a copy of `source` made on first use. */
  readonly file: string;
  /** What the settings are read from: a file that the user named, else the workspace's copy, else a preset. */
  readonly source: { readonly kind: "file" | "workspace" | "preset"; readonly path: string };
  readonly logs: string;
}

/**
 * Finds the environment that the user means. Reads, makes nothing.
 * @param wanted a preset's name, the name of an environment used before, or a settings file
 * @throws CommandError when there is none, with the nearest name
 */
export function findEnvironment(wanted: string): Environment {
  const name = environmentName(wanted);
  const isFile = isSettingsFile(wanted);
  if (!NAME.test(name)) {
    const what = isFile
      ? `the name of the settings file is not a name for an environment`
      : "not a name for an environment";
    throw new CommandError(`--env: ${what} — got ${name} — allowed: ${ALLOWED}`, EXIT.usage);
  }
  const folder = join(homeFolder(), "workspace", name);
  const file = join(folder, `Pulumi.${name}.yaml`);
  const rest = { name, folder, file, logs: join(folder, "logs") };
  if (isFile) {
    const path = resolve(wanted);
    if (!existsSync(path)) throw new CommandError(`--env: no such file — got ${path}`, EXIT.usage);
    return { ...rest, source: { kind: "file", path } };
  }
  if (existsSync(file)) return { ...rest, source: { kind: "workspace", path: file } };
  const preset = join(presetsFolder(), `Pulumi.${name}.yaml`);
  if (existsSync(preset)) return { ...rest, source: { kind: "preset", path: preset } };
  throw unknownEnvironment(name);
}

/** Makes the environment's folder with its project file and its copy of the settings, where they are missing. */
export function makeWorkspace(home: Home, environment: Environment): void {
  mkdirSync(join(home.workspaces, environment.name), { recursive: true, mode: 0o700 });
  mkdirSync(environment.logs, { recursive: true, mode: 0o700 });
  if (environment.source.kind === "workspace") return;
  const copy = SettingsFile.read(environment.source.path);
  // The salt and the secrets belong to this workspace; a file that is read again must not take them away.
  if (existsSync(environment.file)) copy.adoptSecrets(SettingsFile.read(environment.file));
  copy.write(environment.file);
}

/** Names of the shipped presets, `local` first. */
export function presetNames(): string[] {
  const names = readdirSync(presetsFolder()).flatMap((name) => /^Pulumi\.(.+)\.yaml$/.exec(name)?.[1] ?? []);
  return names.sort((one, other) => Number(other === "local") - Number(one === "local") || one.localeCompare(other));
}

/** Whether something in this environment's settings was encrypted already. */
export function hasSecrets(environment: Environment): boolean {
  return existsSync(environment.file) && /^encryption(salt|key):/m.test(readFileSync(environment.file, "utf8"));
}

/** The name that `--env NAME|FILE` stands for: a file's is its own, without `Pulumi.` and `.yaml`. */
export function environmentName(wanted: string): string {
  if (!isSettingsFile(wanted)) return wanted;
  return basename(wanted)
    .replace(/\.ya?ml$/, "")
    .replace(/^Pulumi\./, "");
}

function isSettingsFile(wanted: string): boolean {
  return /[/\\]|\.ya?ml$/.test(wanted);
}

function presetsFolder(): string {
  return join(packageRoot(), "stacks");
}

function usedNames(): string[] {
  const folder = join(homeFolder(), "workspace");
  return existsSync(folder) ? readdirSync(folder) : [];
}

function unknownEnvironment(name: string): CommandError {
  const known = [...new Set([...presetNames(), ...usedNames()])];
  const near = nearestName(name, known);
  const parts = [
    `--env: no preset and no environment of this name`,
    `got ${name}`,
    `allowed: ${known.join(", ")}, or a settings file`,
    ...(near === undefined ? [] : [`fix: --env ${near}`]),
  ];
  return new CommandError(parts.join(" — "), EXIT.usage);
}
