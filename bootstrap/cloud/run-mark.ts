import { randomBytes } from "node:crypto";
import { ProblemsError } from "../../plan/problem";
import { judgeExpiry, ownerTag, readRunTags, runTags, RUN_TAGS, type RunMark } from "../../plan/run-tags";
import type { Machine } from "./machines";

/** In whole seconds, as tags have it: what is made of it is the same when it is read back. */
export function freshMark(stack: string, owner: string, now: Date, ttlSeconds: number | undefined): RunMark {
  const createdAt = new Date(Math.floor(now.getTime() / 1000) * 1000);
  const runId = `${stack.slice(0, 40).replace(/-+$/, "")}-${randomBytes(6).toString("hex")}`;
  const ends = ttlSeconds === undefined ? {} : { expiresAt: new Date(createdAt.getTime() + ttlSeconds * 1000) };
  return { runId, stack, owner, createdAt, ...ends };
}

/** The run that an `up` belongs to: that of its machines, or of those that it replaces, else a new one. */
export function goingOn({ mine, living, fresh }: Runs): RunMark {
  return markOf(mine) ?? unlessOver(markOf(living), fresh) ?? fresh;
}

interface Runs {
  /** Machines that are as the settings want them. */
  readonly mine: readonly Machine[];
  /** All of the stack. */
  readonly living: readonly Machine[];
  readonly fresh: RunMark;
}

/** The run that machines are of. */
function markOf([machine]: readonly Machine[]): RunMark | undefined {
  const reading = readRunTags(machine?.tags ?? {});
  return reading.kind === "ours" ? reading.mark : undefined;
}

/** The run of machines that others replace goes on, with its end, unless it is over or the settings have begun or ceased to limit it. */
function unlessOver(mark: RunMark | undefined, fresh: RunMark): RunMark | undefined {
  if (mark === undefined || (mark.expiresAt === undefined) !== (fresh.expiresAt === undefined)) return undefined;
  return judgeExpiry(mark, fresh.createdAt).kind === "expired" ? undefined : mark;
}

/** A stack of the same name in the same account is somebody else's unless it has the same owner. */
export function refuseOthers(living: readonly Machine[], mark: RunMark): void {
  const own = runTags(mark)[RUN_TAGS.owner];
  const other = living.find(({ tags }) => tags[RUN_TAGS.owner] !== own);
  if (other === undefined) return;
  const owner = ownerTag(other.tags[RUN_TAGS.owner] ?? "somebody unknown");
  throw new ProblemsError([
    {
      setting: "ec2.owner",
      what: `an environment of this name has machines in this account already, of ${owner} (${other.instanceId})`,
      value: own,
      fix: `take another name for yours, or, to work on that one, set \`ec2.owner\` to ${owner}`,
    },
  ]);
}
