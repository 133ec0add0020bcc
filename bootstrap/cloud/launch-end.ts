import { DeleteFleetsCommand, TerminateInstancesCommand } from "@aws-sdk/client-ec2";
import { setTimeout as sleep } from "node:timers/promises";
import type { Clients } from "./clients";
import { errorCode } from "./ladder-errors";
import { findMachines, type Machine } from "./machines";

/** A machine with GPUs takes up to ten minutes to shut down. */
const END_SECONDS = 1200;
const POLL_SECONDS = 3;

export interface Ending {
  readonly instanceIds: readonly string[];
  readonly fleetIds?: readonly string[];
  readonly onProgress: (line: string) => void;
  readonly timeoutSeconds?: number;
}

/**
 * Ends machines and waits until they are gone: their addresses, volumes and interfaces are free then. What is gone already is no error.
 * @throws Error naming those that live on after the limit
 */
export async function endMachines(clients: Clients, ending: Ending): Promise<void> {
  const { instanceIds, fleetIds = [], onProgress, timeoutSeconds = END_SECONDS } = ending;
  if (instanceIds.length > 0) onProgress(`ending ${instanceIds.join(", ")}`);
  await Promise.all(instanceIds.map((id) => endOne(clients, id)));
  await endFleets(clients, fleetIds);
  const deadline = Date.now() + timeoutSeconds * 1000;
  let waited = 0;
  for (;;) {
    const left = await stillThere(clients, instanceIds);
    if (left.length === 0) break;
    const names = left.map(({ instanceId, state }) => `${instanceId} (${state})`).join(", ");
    if (Date.now() > deadline) throw new Error(`machines that do not end within ${timeoutSeconds} s: ${names}`);
    if (waited++ % 10 === 9) onProgress(`still ending: ${names}`);
    await sleep(Math.min(POLL_SECONDS * 1000, Math.max(200, timeoutSeconds * 100)));
  }
  if (instanceIds.length > 0) onProgress(`${instanceIds.length === 1 ? "the machine is" : "the machines are"} gone`);
}

/** One by one, since EC2 refuses a whole list for one id that it no longer knows. */
async function endOne({ ec2 }: Clients, id: string): Promise<void> {
  try {
    await ec2.send(new TerminateInstancesCommand({ InstanceIds: [id] }));
  } catch (error) {
    if (!/InvalidInstanceID/.test(errorCode(error))) throw error;
  }
}

/** A fleet that launched once is only a record; it goes so that nothing of the stack is listed. */
async function endFleets({ ec2 }: Clients, fleetIds: readonly string[]): Promise<void> {
  if (fleetIds.length === 0) return;
  try {
    await ec2.send(new DeleteFleetsCommand({ FleetIds: [...fleetIds], TerminateInstances: true }));
  } catch (error) {
    if (!/InvalidFleetId|FleetNotFound|NotFound/.test(errorCode(error))) throw error;
  }
}

async function stillThere(clients: Clients, ids: readonly string[]): Promise<Machine[]> {
  if (ids.length === 0) return [];
  const machines = await findMachines(clients, [{ Name: "instance-id", Values: [...ids] }]);
  return machines.filter(({ state }) => state !== "terminated");
}
