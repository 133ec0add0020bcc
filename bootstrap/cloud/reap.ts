import { judgeExpiry, readRunTags } from "../../plan/run-tags";
import { withClients } from "./clients";
import { watchCloudClock } from "./cloud-clock";
import { findThings } from "./inventory";
import { COPIED, hasCopiedTags } from "./ownership";
import { type CloudThing, describeThing, removalByHand } from "./kinds";
import { type Removal, removeThings, type RemoveOptions } from "./remove";

export interface ReapOptions extends RemoveOptions {
  readonly regions: readonly string[];
  /** Looks and tells, deletes nothing. */
  readonly dryRun?: boolean;
  /** Leaves what has been over for less than this. */
  readonly olderThanSeconds?: number;
  /** Called with one line for each thing. */
  readonly onLine: (line: string) => void;
}

/** What `reap` found and did, over all regions. */
export interface ReapResult {
  /** Deleted, by this run or by another at the same time. */
  readonly removed: readonly CloudThing[];
  /** Over, and still there: with `dryRun` all that would be deleted. */
  readonly left: readonly CloudThing[];
  /** Ours by their tags, but without an end that could be read: a person has to look. */
  readonly unclear: readonly CloudThing[];
  /** Ours and not over, or without an end. */
  readonly live: number;
  /** Regions that could not be asked, and why. */
  readonly unasked: readonly { readonly region: string; readonly reason: string }[];
}

/**
 * Deletes what expired runs left, from tags alone: no state, no settings, no machine. Touches nothing that does not say that
 * Tandem made it and until when. May run several times at once, and beside a running `up` or `destroy`.
 */
export async function reap(options: ReapOptions): Promise<ReapResult> {
  const results = await Promise.all(options.regions.map((region) => reapRegion(region, options)));
  return {
    removed: results.flatMap(({ removed }) => removed),
    left: results.flatMap(({ left }) => left),
    unclear: results.flatMap(({ unclear }) => unclear),
    live: results.reduce((sum, { live }) => sum + live, 0),
    unasked: results.flatMap(({ unasked }) => unasked),
  };
}

const NOTHING: ReapResult = { removed: [], left: [], unclear: [], live: 0, unasked: [] };

async function reapRegion(region: string, options: ReapOptions): Promise<ReapResult> {
  try {
    return await withClients(region, async (clients) => {
      const now = watchCloudClock(clients.ec2);
      const things = await findThings(clients);
      const { due, unclear, live } = judge(things, now(), options.olderThanSeconds ?? 0);
      for (const { thing, reason } of unclear) options.onLine(`${describeThing(thing)}: left alone, ${reason}`);
      if (options.dryRun === true) {
        for (const { thing, since } of due) options.onLine(`${describeThing(thing)}: would be deleted, ${since}`);
        return { ...NOTHING, left: due.map(({ thing }) => thing), unclear: unclear.map(({ thing }) => thing), live };
      }
      const why = new Map(due.map(({ thing, since }) => [thing, since]));
      const onRemoval = (removal: Removal) => {
        options.onLine(tell(removal, why.get(removal.thing) ?? ""));
        options.onRemoval?.(removal);
      };
      const removals = await removeThings(clients, [...why.keys()], { ...options, onRemoval });
      const isLeft = ({ outcome }: Removal) => outcome === "left";
      return {
        ...NOTHING,
        removed: removals.filter((removal) => !isLeft(removal)).map(({ thing }) => thing),
        left: removals.filter(isLeft).map(({ thing }) => thing),
        unclear: unclear.map(({ thing }) => thing),
        live,
      };
    });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    options.onLine(`${region} could not be asked: ${reason}`);
    return { ...NOTHING, unasked: [{ region, reason }] };
  }
}

interface Judgement {
  readonly due: { readonly thing: CloudThing; readonly since: string }[];
  readonly unclear: { readonly thing: CloudThing; readonly reason: string }[];
  readonly live: number;
}

/**
 * Sorts things by what their tags say. Where the cloud's own launch time shows that the clock that wrote the tags was ahead, an
 * instance ends as early, and everything else of its run with the last of them: an instance that only says it is of a run can't end
 * the others.
 */
function judge(things: readonly CloudThing[], now: Date, olderThanSeconds: number): Judgement {
  const launches = new Map<string, Date>();
  for (const { tags, launchedAt } of things) {
    const runId = tags["tandem:run-id"];
    const known = runId === undefined ? undefined : launches.get(runId);
    if (runId === undefined || launchedAt === undefined || (known !== undefined && known > launchedAt)) continue;
    launches.set(runId, launchedAt);
  }
  const due: Judgement["due"] = [];
  const unclear: Judgement["unclear"] = [];
  let live = 0;
  for (const thing of things) {
    const reading = readRunTags(thing.tags);
    if (reading.kind === "damaged") unclear.push({ thing, reason: reading.reason });
    if (reading.kind !== "ours") continue;
    const { runId, owner } = reading.mark;
    const expiry = judgeExpiry(reading.mark, now, thing.launchedAt ?? launches.get(runId));
    const isDue = expiry.kind === "expired" && expiry.secondsAgo >= olderThanSeconds;
    if (isDue && hasCopiedTags(thing)) unclear.push({ thing, reason: COPIED });
    else if (isDue) {
      due.push({ thing, since: `run ${runId} of ${owner} is over since ${spell(expiry.secondsAgo)}` });
    } else live++;
  }
  return { due, unclear, live };
}

function tell({ thing, outcome, reason }: Removal, since: string): string {
  const what = describeThing(thing);
  if (outcome !== "left") return `${what}: ${outcome === "removed" ? "deleted" : outcome}, ${since}`;
  return `${what}: NOT deleted, ${reason ?? ""} — fix: ${removalByHand(thing)}`;
}

/** `2 d 3 h`, `5 h 12 min`, `40 s`. */
function spell(seconds: number): string {
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}
