import { ProblemsError } from "../plan/problem";
import { parseSettings, type Settings } from "../plan/settings";
import { coerceConfig } from "../plan/settings-config";

/** Pulumi's configuration keys of ours start with this. */
const NAMESPACE = "tandem:";

/**
 * Settings from a stack's configuration.
 * @param config all configuration values by their full key (`tandem:model`); keys of other namespaces are left alone
 * @param overrides raw settings of this run only, from the environment variables of the guide
 * @throws ProblemsError with all problems at once
 */
export function loadSettings(
  config: Readonly<Record<string, string>>,
  overrides: Record<string, unknown> = {},
): Settings {
  const own = Object.entries(config)
    .filter(([key]) => key.startsWith(NAMESPACE))
    .map(([key, value]) => [key.slice(NAMESPACE.length), value] as const);
  const raw = merge(coerceConfig(Object.fromEntries(own)), overrides);
  const result = parseSettings(raw);
  if (result.settings === undefined) throw new ProblemsError(result.problems);
  return result.settings;
}

/** Nested settings are merged key by key, so that an override of one leaves its neighbours alone. */
function merge(base: Record<string, unknown>, over: Record<string, unknown>): Record<string, unknown> {
  const result = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const present = result[key];
    result[key] = isRecord(present) && isRecord(value) ? merge(present, value) : value;
  }
  return result;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
