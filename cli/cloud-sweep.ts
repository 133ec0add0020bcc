import type { CloudThing } from "../bootstrap/cloud/kinds";
import { cloudOwnerOf, regionsOf } from "./cloud-regions";
import { CommandError } from "./exit";
import type { Session } from "./session";

/**
 * Takes away what a killed launch left in the cloud and in no state, and proves that nothing carries the environment's tags any more.
 * Asks no cloud for an environment that was in none.
 * @throws CommandError naming each survivor and the command that removes it
 */
export async function sweepCloudOf({ environment, console, interruption }: Session): Promise<void> {
  const regions = regionsOf(environment);
  if (regions.length === 0) return;
  const [{ proveGone, sweepCloud }, { describeThing }] = await Promise.all([
    import("../bootstrap/cloud/survivors.js"),
    import("../bootstrap/cloud/kinds.js"),
  ]);
  const onRemoval = ({ thing, outcome, reason }: { thing: CloudThing; outcome: string; reason?: string }) =>
    console.say(`${describeThing(thing)}: ${outcome}${reason === undefined ? "" : `, ${reason}`}`);
  try {
    const stack = { name: environment.name, owner: cloudOwnerOf(environment) };
    await interruption.guard(sweepCloud(regions, stack, { onRemoval }));
    await interruption.guard(proveGone(regions, stack));
  } catch (error) {
    if (error instanceof CommandError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof Error && error.name === "SurvivorsError") throw new CommandError(message);
    throw new CommandError(
      `nobody knows whether something of ${environment.name} is left in ${regions.join(", ")}: ${message} — fix: run it again; what is rented ends by itself where it has an end, and tandem reap removes the rest`,
    );
  }
}
