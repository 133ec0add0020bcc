import { GUIDE_VARIABLES, settingsFromGuideEnvironment, type GuideSettings } from "../plan/guide-environment";
import { ProblemsError } from "../plan/problem";
import type { Settings, SettingsResult } from "../plan/settings";
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
 * @param decrypted configuration that the file holds encrypted, by full key
 * @throws ProblemsError with every problem at once
 */
export function resolveSettings(
  environment: Environment,
  options: Readonly<Record<string, unknown>> & { readonly set: readonly string[] },
  say: (line: string) => void,
  decrypted: Readonly<Record<string, string>> = {},
): RunSettings {
  const guide = settingsFromGuideEnvironment(process.env);
  const { changes, problems: changeProblems } = settingChanges(options, options.set);
  const fromVariables = without(guide.raw, changes);
  const raw = merge(fromVariables, toRawSettings(changes));
  const result = tryLoad({ ...SettingsFile.read(environment.source.path).config(), ...decrypted }, raw);
  const problems = [...guide.problems, ...changeProblems, ...result.problems];
  if (result.settings === undefined || problems.length > 0) throw new ProblemsError(problems);
  for (const line of describeVariables(guide, changes)) say(line);
  return { settings: result.settings, changes, fromVariables };
}

function tryLoad(config: Record<string, string>, raw: Record<string, unknown>): SettingsResult {
  try {
    return { settings: loadSettings(config, raw), problems: [] };
  } catch (error) {
    if (error instanceof ProblemsError) return { problems: error.problems };
    throw error;
  }
}

/** What each of the guide's variables did, or why it did nothing. */
function describeVariables({ used, raw }: GuideSettings, changes: readonly SettingChange[]): string[] {
  return GUIDE_VARIABLES.filter(({ name }) => used.includes(name)).map(({ name, setting }) => {
    const given = `${name}=${process.env[name] ?? ""} from the environment`;
    const winner = changes.find(({ path }) => path.join(".") === setting);
    if (winner !== undefined) return `${given} is not used: ${winner.source} says otherwise`;
    const value = setting.split(".").reduce<unknown>((block, part) => (isRecord(block) ? block[part] : undefined), raw);
    return `${given}: ${setting} ${String(value)}, for this run`;
  });
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
