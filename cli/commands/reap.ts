import { reap } from "../../bootstrap/cloud/reap";
import { enabledRegions } from "../../bootstrap/cloud/regions";
import { durationSeconds } from "../../plan/time";
import type { Console } from "../console";
import { CommandError, EXIT, messageOf } from "../exit";
import type { Report } from "../report";

export interface ReapCommandOptions {
  readonly region: readonly string[];
  readonly olderThan?: string;
  readonly dryRun: boolean;
}

/** `tandem reap`: deletes what expired runs left in the cloud. */
export async function reapCloud(options: ReapCommandOptions, console: Console): Promise<Report> {
  const { region, olderThan, dryRun } = options;
  const olderThanSeconds = olderThan === undefined ? 0 : durationSeconds(olderThan);
  if (olderThanSeconds === undefined) {
    throw new CommandError(
      `--older-than: not a duration — got ${String(olderThan)} — allowed: minutes, hours or days, such as 90m, 2h or 1d`,
      EXIT.usage,
    );
  }
  const regions = region.length > 0 ? region : await regionsOfAccount();
  const result = await reap({ regions, dryRun, olderThanSeconds, onLine: console.say });
  const { removed, left, unclear, live, unasked } = result;
  const remains = left.length + unclear.length + unasked.length > 0;
  const parts = [
    dryRun ? `${left.length} would be deleted` : `${removed.length} deleted, ${left.length} left`,
    `${live} not over`,
    ...(unclear.length > 0 ? [`${unclear.length} unclear`] : []),
    ...(unasked.length > 0 ? [`not asked: ${unasked.map((each) => each.region).join(", ")}`] : []),
  ];
  return {
    status: remains ? EXIT.failed : EXIT.ok,
    document: { regions, dryRun, removed, left, unclear, live, unasked },
    text: `${regions.length} region${regions.length === 1 ? "" : "s"}: ${parts.join(", ")}`,
  };
}

async function regionsOfAccount(): Promise<string[]> {
  try {
    return await enabledRegions();
  } catch (error) {
    throw new CommandError(
      `the account's regions can't be read: ${messageOf(error)} — fix: give credentials, or --region`,
    );
  }
}
