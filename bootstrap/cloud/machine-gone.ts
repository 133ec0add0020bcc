import { withClients } from "./clients";
import { findMachines } from "./machines";

/** Whether EC2 has ended an instance, or does not know it any more. */
export function instanceIsGone({ id, region }: { readonly id: string; readonly region: string }): Promise<boolean> {
  return withClients(region, async (clients) => {
    const machines = await findMachines(clients, [{ Name: "instance-id", Values: [id] }]);
    return machines.every(({ state }) => state === "terminated" || state === "shutting-down");
  });
}
