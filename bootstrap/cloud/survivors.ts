import { setTimeout as sleep } from "node:timers/promises";
import { withClients } from "./clients";
import { findThings } from "./inventory";
import { type CloudThing, describeThing, removalByHand } from "./kinds";
import { type OwnedStack, othersOf, ownerFix, whyNotOwn } from "./ownership";
import { type Removal, removeThings, type RemoveOptions } from "./remove";

/** What ends by itself is waited for. */
const ENDING = new Set(["shutting-down", "stopping"]);
const ENDING_SECONDS = 1200;
const PAUSE_SECONDS = 3;

/** Something of a destroyed stack is still there, or nobody could say. */
export class SurvivorsError extends Error {
  constructor(
    message: string,
    readonly survivors: readonly CloudThing[],
  ) {
    super(message);
    this.name = "SurvivorsError";
  }
}

/** What bears the stack's name in these regions, whoever owns it. */
export async function findSurvivors(regions: readonly string[], stack: string): Promise<CloudThing[]> {
  const found = await Promise.all(
    regions.map((region) => withClients(region, (clients) => findThings(clients, stack))),
  );
  return found.flat();
}

/**
 * Deletes whatever the stack still has in these regions, whatever Pulumi's state says: a launch that was killed is in no state.
 * What another owner has under the same name is not touched.
 * @returns what became of each thing
 */
export async function sweepCloud(
  regions: readonly string[],
  stack: OwnedStack,
  options: RemoveOptions = {},
): Promise<Removal[]> {
  const removals = await Promise.all(
    regions.map((region) =>
      withClients(region, async (clients) => {
        const things = await findThings(clients, stack.name);
        return removeThings(
          clients,
          things.filter((thing) => whyNotOwn(thing, stack) === undefined),
          options,
        );
      }),
    ),
  );
  return removals.flat();
}

/**
 * Proves that nothing of the stack is left in these regions.
 * @throws SurvivorsError naming each thing and the command that removes it; or what bears the name and was left alone, and why; or that
 *   the cloud could not be asked
 */
export async function proveGone(
  regions: readonly string[],
  stack: OwnedStack,
  { timeoutSeconds = ENDING_SECONDS, pauseSeconds = PAUSE_SECONDS }: RemoveOptions = {},
): Promise<void> {
  const deadline = Date.now() + timeoutSeconds * 1000;
  for (;;) {
    const things = await ask(regions, stack.name);
    const survivors = things.filter((thing) => whyNotOwn(thing, stack) === undefined);
    if (survivors.length === 0 && things.length > 0) throw othersError(things, stack);
    if (survivors.length === 0) return;
    const isOnlyEnding = survivors.some(({ state }) => ENDING.has(state ?? ""));
    if (!isOnlyEnding || Date.now() > deadline) throw survivorsError(survivors, stack.name);
    await sleep(pauseSeconds * 1000);
  }
}

async function ask(regions: readonly string[], stack: string): Promise<CloudThing[]> {
  try {
    return await findSurvivors(regions, stack);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new SurvivorsError(
      `nobody knows whether something of the stack ${stack} is left in ${regions.join(", ")}: the cloud could not be asked — got ${reason} — fix: run it again; its machines end at their expiry, and tandem reap removes the rest`,
      [],
    );
  }
}

function survivorsError(survivors: readonly CloudThing[], stack: string): SurvivorsError {
  const lines = survivors.map((thing) => `\n  ${describeThing(thing)} — fix: ${removalByHand(thing)}`);
  const count = survivors.length === 1 ? "one thing survives" : `${survivors.length} things survive`;
  return new SurvivorsError(`${count} of the stack ${stack}:${lines.join("")}`, survivors);
}

/** Nobody can tell whether they are the user's own, under another name of theirs: so they are neither deleted nor passed over. */
function othersError(things: readonly CloudThing[], stack: OwnedStack): SurvivorsError {
  const lines = things.map((thing) => `\n  ${describeThing(thing)}: ${whyNotOwn(thing, stack) ?? ""}`);
  const owners = othersOf(things, stack);
  const fix = owners.length > 0 ? ownerFix(owners) : "remove their tags";
  return new SurvivorsError(
    `left alone, though the stack's name ${stack.name} is on it:${lines.join("")}\n  fix: ${fix}`,
    things,
  );
}
