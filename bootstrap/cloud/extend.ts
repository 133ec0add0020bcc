import { CreateTagsCommand } from "@aws-sdk/client-ec2";
import { formatTime, judgeExpiry, readRunTags, RUN_TAGS } from "../../plan/run-tags";
import { withClients } from "./clients";
import { watchCloudClock } from "./cloud-clock";
import { findThings } from "./inventory";
import { type OwnedStack, othersOf, ownerFix, whyNotOwn } from "./ownership";

/** EC2 tags this many things with one call. */
const MOST_AT_ONCE = 500;

/** What the tags of a stack say after `extendTags`. */
export interface Extension {
  readonly expiresAt: Date;
  readonly things: number;
}

/**
 * Moves the end of a stack's things in a region, by their tags, to `ttlSeconds` from the cloud's now. Never brings it nearer.
 * @returns undefined when the stack has nothing there that ends
 * @throws Error when it is over already: whoever reaps may be deleting it; and when it is another owner's
 */
export async function extendTags(
  region: string,
  stack: OwnedStack,
  ttlSeconds: number,
): Promise<Extension | undefined> {
  return withClients(region, async (clients) => {
    const now = watchCloudClock(clients.ec2);
    const found = (await findThings(clients, stack.name)).filter(({ id }) => !id.startsWith("arn:"));
    const things = found.filter((thing) => whyNotOwn(thing, stack) === undefined);
    const owners = othersOf(found, stack);
    // A machine whose timer was moved and whose tags were not would be reaped.
    if (things.length === 0 && owners.length > 0)
      throw new Error(`the stack ${stack.name} belongs to ${owners.join(" and ")} — fix: ${ownerFix(owners)}`);
    const marks = things.flatMap(({ tags }) => {
      const reading = readRunTags(tags);
      return reading.kind === "ours" && reading.mark.expiresAt !== undefined ? [reading.mark] : [];
    });
    if (marks.length === 0) return undefined;
    const ends = marks.flatMap(({ expiresAt }) => expiresAt?.getTime() ?? []);
    if (marks.some((mark) => judgeExpiry(mark, now()).kind === "expired")) {
      const end = formatTime(new Date(Math.min(...ends)));
      throw new Error(`the stack ${stack.name} is over since ${end}: it can't be extended — fix: start it again`);
    }
    const expiresAt = new Date(Math.max(now().getTime() + ttlSeconds * 1000, ...ends));
    const Tags = [{ Key: RUN_TAGS.expiresAt, Value: formatTime(expiresAt) }];
    const ids = things.map(({ id }) => id);
    for (let start = 0; start < ids.length; start += MOST_AT_ONCE) {
      await clients.ec2.send(new CreateTagsCommand({ Resources: ids.slice(start, start + MOST_AT_ONCE), Tags }));
    }
    return { expiresAt: new Date(formatTime(expiresAt)), things: ids.length };
  });
}
