import { settingsFromGuideEnvironment } from "../plan/guide-environment";
import type { Settings } from "../plan/settings";
import { loadSettings } from "../stacks/config";
import type { Environment } from "./environments";
import { SettingsFile } from "./settings-file";
import { isRecord, settingChanges, toRawSettings, type SettingChange } from "./setting-flags";

/** The settings of one run and where they came from. */
export interface RunSettings {
  readonly settings: Settings;
  /** Given on the command line; `up` keeps them. */
  readonly changes: readonly SettingChange[];
  /** Raw settings that hold for this run only, from the guide's environment variables. */
  readonly fromVariables: Record<string, unknown>;
}

/**
 * File, then the guide's environment variables, then the command line, the later one winning.
 * @param options commander's, by attribute name; `set` holds the `--set` texts
 * @throws ProblemsError with every problem at once
 */
export function resolveSettings(
  environment: Environment,
  options: Readonly<Record<string, unknown>> & { readonly set: readonly string[] },
  say: (line: string) => void,
): RunSettings {
  const changes = settingChanges(options, options.set);
  const guide = settingsFromGuideEnvironment(process.env);
  for (const note of guide.notes) say(note);
  const fromVariables = without(guide.settings, changes);
  const config = SettingsFile.read(environment.source.path).config();
  const settings = loadSettings(config, merge(fromVariables, toRawSettings(changes)));
  return { settings, changes, fromVariables };
}

/** What the command line says beats what a variable says. */
function without(raw: Record<string, unknown>, changes: readonly SettingChange[]): Record<string, unknown> {
  const result = structuredClone(raw);
  for (const { path } of changes) {
    let block: unknown = result;
    for (const part of path.slice(0, -1)) block = isRecord(block) ? block[part] : undefined;
    const last = path.at(-1);
    if (isRecord(block) && last !== undefined) Reflect.deleteProperty(block, last);
  }
  return result;
}

/** Nested settings key by key; the second wins. */
export function merge(base: Record<string, unknown>, over: Record<string, unknown>): Record<string, unknown> {
  const result = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const present = result[key];
    result[key] = isRecord(present) && isRecord(value) ? merge(present, value) : value;
  }
  return result;
}

/**
 * Writes what the command line said into the workspace's file; secrets are left for Pulumi to encrypt.
 * @returns the lines that say so
 */
export function saveChanges(environment: Environment, changes: readonly SettingChange[]): string[] {
  const plain = changes.filter((change) => !change.isSecret);
  if (plain.length === 0) return [];
  const file = SettingsFile.read(environment.file);
  for (const { path, value } of plain) file.set(path, value);
  file.write();
  const list = plain.map(({ path, value }) => `${path.join(".")}: ${JSON.stringify(value)}`).join(", ");
  return [`saved for the next runs: ${list} (${environment.file})`];
}
