import { reap } from "../../bootstrap/cloud/reap";
import { enabledRegions } from "../../bootstrap/cloud/regions";
import { durationSeconds } from "../../plan/time";
import type { Console } from "../console";
import { CommandError, EXIT, messageOf } from "../exit";
import type { Report } from "../report";

export interface ReapCommandOptions {
  readonly region: readonly string[];
  readonly kubeContext: readonly string[];
  readonly olderThan?: string;
  readonly dryRun: boolean;
}

/** `tandem reap`: deletes what expired runs left in the cloud. */
export async function reapCloud(options: ReapCommandOptions, console: Console): Promise<Report> {
  const { region, kubeContext, olderThan, dryRun } = options;
  const olderThanSeconds = olderThan === undefined ? 0 : durationSeconds(olderThan);
  if (olderThanSeconds === undefined) {
    throw new CommandError(
      `--older-than: not a duration — got ${String(olderThan)} — allowed: minutes, hours or days, such as 90m, 2h or 1d`,
      EXIT.usage,
    );
  }
  if (kubeContext.length > 0 && region.length === 0)
    return reapClusters(kubeContext, { dryRun, olderThanSeconds }, console);
  const regions = region.length > 0 ? region : await regionsOfAccount();
  const clusters =
    kubeContext.length > 0 ? await reapClusters(kubeContext, { dryRun, olderThanSeconds }, console) : undefined;
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
    status: remains || (clusters?.status ?? EXIT.ok) !== EXIT.ok ? EXIT.failed : EXIT.ok,
    document: { regions, dryRun, removed, left, unclear, live, unasked, ...clusters?.document },
    text: [
      `${regions.length} region${regions.length === 1 ? "" : "s"}: ${parts.join(", ")}`,
      ...(clusters === undefined ? [] : [clusters.text]),
    ].join("\n"),
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

/** Namespaces of clusters, by their marks. */
async function reapClusters(
  contexts: readonly string[],
  { dryRun, olderThanSeconds }: { readonly dryRun: boolean; readonly olderThanSeconds: number },
  console: Console,
): Promise<Report> {
  // The cluster's library takes a second to load: nobody else pays for it.
  const { reapCluster } = await import("../../bootstrap/kubernetes/reap.js");
  const clusters = [];
  for (const context of contexts) {
    clusters.push(await reapCluster({ target: { context }, dryRun, olderThanSeconds, onLine: console.say }));
  }
  const remains = clusters.some(({ left, unclear }) => left.length + unclear.length > 0);
  const lines = clusters.map(({ context, removed, left, unclear, live }) => {
    const over = dryRun ? `${left.length} would be deleted` : `${removed.length} deleted, ${left.length} left`;
    return `${context}: ${over}, ${live} not over${unclear.length > 0 ? `, ${unclear.length} unclear` : ""}`;
  });
  return { status: remains ? EXIT.failed : EXIT.ok, document: { clusters }, text: lines.join("\n") };
}
