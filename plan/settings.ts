import type { z } from "zod";
import type { Problem } from "./problem";
import { issueToProblems } from "./settings-problems";
import { settingsSchema } from "./settings-schema";
import { crossProblems } from "./settings-rules";
import { resolveSplit, type Split } from "./split";

/** What a user may write: every setting is optional. */
export type SettingsInput = z.input<typeof settingsSchema>;

/** All settings with their defaults; `split` as two shares of a GPU's memory. */
export type Settings = Omit<z.output<typeof settingsSchema>, "split"> & { split: Split };

export type SettingsResult =
  | { readonly settings: Settings; readonly problems: readonly [] }
  | { readonly settings?: undefined; readonly problems: readonly Problem[] };

/**
 * Checks raw settings and fills in defaults. Never throws; reports every problem at once: unknown names with the nearest
 * known one, wrong values with what is allowed, and settings that contradict each other.
 */
export function parseSettings(raw: unknown): SettingsResult {
  const parsed = settingsSchema.safeParse(raw ?? {}, { reportInput: true });
  if (!parsed.success) {
    return { problems: parsed.error.issues.flatMap((issue) => issueToProblems(issue, raw)) };
  }
  const settings: Settings = { ...parsed.data, split: resolveSplit(parsed.data.split) };
  const problems = crossProblems(settings);
  return problems.length === 0 ? { settings, problems: [] } : { problems };
}
