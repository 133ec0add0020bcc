import type { z } from "zod";
import type { Problem } from "./problem";
import { unreadable, withoutPaths } from "./settings-partial";
import { issueToProblems, wrongSettings } from "./settings-problems";
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
    const { issues } = parsed.error;
    return { problems: [...issues.flatMap((issue) => issueToProblems(issue, raw)), ...problemsOfTheRest(raw, issues)] };
  }
  const settings = withSplit(parsed.data);
  const problems = crossProblems(settings);
  return problems.length === 0 ? { settings, problems: [] } : { problems };
}

/** What the right ones among the settings contradict each other in, whatever the wrong ones will be. */
function problemsOfTheRest(raw: unknown, issues: readonly z.core.$ZodIssue[]): readonly Problem[] {
  const wrong = issues.flatMap(wrongSettings);
  const rest = settingsSchema.safeParse(
    withoutPaths(
      raw,
      wrong.map(({ written }) => written),
    ),
  );
  if (!rest.success) return [];
  return crossProblems(
    unreadable(
      withSplit(rest.data),
      wrong.flatMap(({ meant }) => (meant === undefined ? [] : [meant])),
    ),
  );
}

function withSplit(settings: z.output<typeof settingsSchema>): Settings {
  return { ...settings, split: resolveSplit(settings.split) };
}
