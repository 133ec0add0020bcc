/**
 * Tags that say whose a thing in the cloud is and when it must be gone. They stand in the call that creates it, so what a
 * killed run left behind can be found and judged without any state.
 */

/** One run of `up` or `ephemeral`: everything it makes in the cloud carries this. */
export interface RunMark {
  /** Unique for each run; lower-case letters, digits and dashes, 64 at most. */
  readonly runId: string;
  readonly stack: string;
  /** Who started it, for people: `user@machine`. */
  readonly owner: string;
  /** By the cloud's clock, not the client's: see `judgeExpiry`. */
  readonly createdAt: Date;
  /** Undefined for a stack that lives until it is destroyed; `reap` never touches such a thing. */
  readonly expiresAt?: Date;
}

export const RUN_TAGS = {
  createdBy: "tandem:created-by",
  runId: "tandem:run-id",
  stack: "tandem:stack",
  owner: "tandem:owner",
  createdAt: "tandem:created-at",
  expiresAt: "tandem:expires-at",
} as const;

/** Value of `tandem:created-by`. */
export const CREATED_BY = "tandem";

/** The clock of the machine that reads may differ from the one that wrote by this much without a consequence. */
export const CLOCK_TOLERANCE_SECONDS = 120;

const RUN_ID = /^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;
/** EC2 takes 256 characters a value; outside EC2 only these characters are allowed. */
const NOT_IN_A_TAG = /[^\p{L}\p{Z}\p{N}_.:/=+\-@]/gu;
const TAG_VALUE_LIMIT = 256;

/** The tags of a run, by name. @throws RangeError for a run id that is none, or a life that ends before it starts */
export function runTags(mark: RunMark): Readonly<Record<string, string>> {
  if (!RUN_ID.test(mark.runId)) {
    throw new RangeError(`run id — got ${mark.runId} — allowed: lower-case letters, digits and dashes, 64 at most`);
  }
  const { createdAt, expiresAt } = mark;
  if (expiresAt !== undefined && expiresAt <= createdAt) {
    throw new RangeError(
      `expiry — got ${formatTime(expiresAt)} — allowed: later than the start, ${formatTime(createdAt)}`,
    );
  }
  return {
    [RUN_TAGS.createdBy]: CREATED_BY,
    [RUN_TAGS.runId]: mark.runId,
    [RUN_TAGS.stack]: mark.stack,
    [RUN_TAGS.owner]: ownerTag(mark.owner),
    [RUN_TAGS.createdAt]: formatTime(createdAt),
    ...(expiresAt === undefined ? {} : { [RUN_TAGS.expiresAt]: formatTime(expiresAt) }),
  };
}

/** An owner as tags have it. */
export function ownerTag(owner: string): string {
  return owner.replace(NOT_IN_A_TAG, "_").slice(0, TAG_VALUE_LIMIT);
}

/** RFC 3339 in UTC, whole seconds: `2026-11-25T22:40:00Z`. */
export function formatTime(time: Date): string {
  return `${time.toISOString().slice(0, 19)}Z`;
}

/** Undefined for what is not exactly what `formatTime` writes. */
export function parseTime(text: string | undefined): Date | undefined {
  if (text === undefined || !TIME.test(text)) return undefined;
  const time = new Date(text);
  return Number.isNaN(time.getTime()) || formatTime(time) !== text ? undefined : time;
}

/** Whose a thing is, by its tags. */
export type TagReading =
  | { readonly kind: "foreign" }
  /** It says that it is ours, but some tag is missing or makes no sense: nobody may delete it by these tags. */
  | { readonly kind: "damaged"; readonly reason: string }
  | { readonly kind: "ours"; readonly mark: RunMark };

/** Reads the tags of any thing in the account, ours or not. */
export function readRunTags(tags: Readonly<Record<string, string>>): TagReading {
  if (tags[RUN_TAGS.createdBy] !== CREATED_BY) return { kind: "foreign" };
  const runId = tags[RUN_TAGS.runId] ?? "";
  const stack = tags[RUN_TAGS.stack] ?? "";
  const createdAt = parseTime(tags[RUN_TAGS.createdAt]);
  const expiresAt = parseTime(tags[RUN_TAGS.expiresAt]);
  if (!RUN_ID.test(runId)) return damaged(RUN_TAGS.runId, tags);
  if (stack === "") return damaged(RUN_TAGS.stack, tags);
  if (createdAt === undefined) return damaged(RUN_TAGS.createdAt, tags);
  const hasExpiry = tags[RUN_TAGS.expiresAt] !== undefined;
  if (hasExpiry && (expiresAt === undefined || expiresAt <= createdAt)) return damaged(RUN_TAGS.expiresAt, tags);
  // It is shown to people, and anybody may have written it.
  const owner = ownerTag(tags[RUN_TAGS.owner] ?? "");
  return { kind: "ours", mark: { runId, stack, owner, createdAt, ...(expiresAt === undefined ? {} : { expiresAt }) } };
}

function damaged(name: string, tags: Readonly<Record<string, string>>): TagReading {
  const value = tags[name];
  return { kind: "damaged", reason: value === undefined ? `no tag ${name}` : `tag ${name} is ${value}` };
}

export type Expiry =
  | { readonly kind: "never" }
  | { readonly kind: "live"; readonly secondsLeft: number }
  | { readonly kind: "expired"; readonly secondsAgo: number };

/**
 * Whether a run is over. `now` should be the cloud's own time (the `Date` of its answers); with it and tags written by it
 * no client's clock matters. For tags that a client with a wrong clock wrote: one that was ahead shows by a creation after
 * `launchedAt`, what the cloud itself says of the thing, and then only the length of the run counts, from there on. One that was
 * behind looks like a long wait for capacity, and ends the run early: it can't leak.
 */
export function judgeExpiry(mark: RunMark, now: Date, launchedAt?: Date): Expiry {
  if (mark.expiresAt === undefined) return { kind: "never" };
  const lifeMs = mark.expiresAt.getTime() - mark.createdAt.getTime();
  const toleranceMs = CLOCK_TOLERANCE_SECONDS * 1000;
  const wasAhead = launchedAt !== undefined && mark.createdAt.getTime() > launchedAt.getTime() + toleranceMs;
  const endMs = wasAhead ? launchedAt.getTime() + lifeMs : mark.expiresAt.getTime();
  const overMs = now.getTime() - endMs - toleranceMs;
  if (overMs < 0) return { kind: "live", secondsLeft: Math.ceil(-overMs / 1000) };
  return { kind: "expired", secondsAgo: Math.floor(overMs / 1000) };
}

/** The tags as the AWS SDK takes them. */
export function tagList(tags: Readonly<Record<string, string>>): { Key: string; Value: string }[] {
  return Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
}
