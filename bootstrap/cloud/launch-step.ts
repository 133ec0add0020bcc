import { withClients } from "./clients";
import { launchMachines } from "./launch";
import { endMachines } from "./launch-end";
import type { LaunchRequest, LaunchResult } from "./launch-request";

/** Pulumi hands over what the step printed the last time. */
const PREVIOUS_VARIABLE = "PULUMI_COMMAND_STDOUT";

/** The launch step of the runner: what it prints is what later steps and `end-launch` go on. */
export function launchStep(request: LaunchRequest, onProgress: (line: string) => void): Promise<LaunchResult> {
  return withClients(request.region, (clients) =>
    launchMachines(clients, request, { onProgress, previous: previousResult() }),
  );
}

/** Ends the machines that the step launched. What it handed on says which; a step that handed on nothing has none. */
export async function endLaunchStep({ region }: LaunchRequest, onProgress: (line: string) => void): Promise<void> {
  const machines = previousResult()?.machines ?? [];
  const instanceIds = machines.map(({ instanceId }) => instanceId);
  const fleetIds = [...new Set(machines.flatMap(({ fleetId }) => fleetId ?? []))];
  await withClients(region, (clients) => endMachines(clients, { instanceIds, fleetIds, onProgress }));
}

function previousResult(): LaunchResult | undefined {
  const printed = process.env[PREVIOUS_VARIABLE];
  return printed === undefined || printed === "" ? undefined : (JSON.parse(printed) as LaunchResult);
}
