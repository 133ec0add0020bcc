import { hostname, userInfo } from "node:os";
import { ownerTag, RUN_TAGS } from "../../plan/run-tags";
import type { CloudThing } from "./kinds";

/** One owner's stack: somebody else may have one of the same name in the same account. */
export interface OwnedStack {
  readonly name: string;
  /** As in the tags, see `ownerOf`. */
  readonly owner: string;
}

/** Whom the things of a stack belong to, as their tags have it: the setting, else this user at this machine. */
export function ownerOf(ec2: { readonly owner?: string } | undefined): string {
  return ownerTag(ec2?.owner ?? `${userInfo().username}@${hostname()}`);
}

/**
 * Whether tags lie. Tags can be copied, for example by "Launch more like this"; those that EC2 itself writes on what a fleet or a
 * template launched can't be, and all machines of Tandem come from both.
 */
export function hasCopiedTags({ isFromTemplate }: CloudThing): boolean {
  return isFromTemplate === false;
}

/** Why a thing with the stack's name is not this owner's to delete; undefined for what is. */
export function whyNotOwn(thing: CloudThing, { owner }: OwnedStack): string | undefined {
  const theirs = thing.tags[RUN_TAGS.owner];
  if (theirs !== owner) return `it belongs to ${ownerTag(theirs ?? "somebody unknown")}, not to ${owner}`;
  return hasCopiedTags(thing) ? COPIED : undefined;
}

export const COPIED = "Tandem did not launch it, so its tags were copied";

/** The other owners of things with the stack's name. */
export function othersOf(things: readonly CloudThing[], { owner }: OwnedStack): string[] {
  return [...new Set(things.flatMap(({ tags }) => tags[RUN_TAGS.owner] ?? []))]
    .filter((each) => each !== owner)
    .map(ownerTag);
}

/** What to do about other owners. */
export function ownerFix(owners: readonly string[]): string {
  return `if that is you as well, set \`ec2.owner\` to ${owners.join(" or ")} and run it again; else take another name`;
}
