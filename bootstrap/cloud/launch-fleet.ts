import { CreateFleetCommand, type CreateFleetError, type _InstanceType } from "@aws-sdk/client-ec2";
import type { Rung } from "../../plan/ec2-ladder";
import { tagList } from "../../plan/run-tags";
import type { Clients } from "./clients";
import { classifyCode, errorCode, type RungError } from "./ladder-errors";

/** One request for machines of one market. */
export interface FleetRequest {
  /** The same token gets the same machines, also when the answer was lost. */
  readonly clientToken: string;
  readonly count: number;
  readonly launchTemplate: { readonly id: string; readonly version: string };
  /** All of one market, the first wins. */
  readonly choices: readonly (Rung & { readonly subnetId: string })[];
  /** Of the fleet; those of the machines stand in the launch template. */
  readonly tags: Readonly<Record<string, string>>;
  /** EC2 launches nothing beyond this, whatever a catalogue says. */
  readonly maxPricePerHourUsd?: number;
}

export interface FleetAnswer {
  readonly fleetId?: string;
  readonly instanceIds: readonly string[];
  readonly errors: readonly RungError[];
}

/**
 * Asks EC2 once, for all choices of a run of the ladder. What it could not launch is an answer, not an error; so is a call that it
 * refuses for a reason of the machines.
 * @throws the SDK's error for a call that never came to an answer
 */
export async function requestFleet({ ec2 }: Clients, request: FleetRequest): Promise<FleetAnswer> {
  const { clientToken, count, choices, tags, maxPricePerHourUsd } = request;
  const market = choices[0]?.market ?? "on-demand";
  const limit = maxPricePerHourUsd === undefined ? {} : { MaxTotalPrice: String(maxPricePerHourUsd) };
  const command = new CreateFleetCommand({
    Type: "instant",
    ClientToken: clientToken,
    TargetCapacitySpecification: { TotalTargetCapacity: count, DefaultTargetCapacityType: market },
    // A fleet buys in one market: it never falls from spot to on-demand by itself.
    ...(market === "spot"
      ? { SpotOptions: { AllocationStrategy: "capacity-optimized-prioritized", ...limit } }
      : { OnDemandOptions: { AllocationStrategy: "prioritized", ...limit } }),
    LaunchTemplateConfigs: [
      {
        LaunchTemplateSpecification: {
          LaunchTemplateId: request.launchTemplate.id,
          Version: request.launchTemplate.version,
        },
        Overrides: choices.map(({ instanceType, subnetId }, Priority) => ({
          InstanceType: instanceType as _InstanceType,
          SubnetId: subnetId,
          Priority,
        })),
      },
    ],
    TagSpecifications: [{ ResourceType: "fleet", Tags: tagList(tags) }],
  });
  try {
    const { FleetId, Instances = [], Errors = [] } = await ec2.send(command);
    const instanceIds = Instances.flatMap(({ InstanceIds = [] }) => InstanceIds);
    return { fleetId: FleetId, instanceIds, errors: Errors.map((error) => toRungError(error, choices)) };
  } catch (error) {
    const code = errorCode(error);
    const message = error instanceof Error ? error.message : String(error);
    const kind = classifyCode(code, message);
    if (kind === "other") throw error;
    return { instanceIds: [], errors: choices.map((rung) => ({ rung, class: kind, code, message })) };
  }
}

function toRungError(error: CreateFleetError, choices: FleetRequest["choices"]): RungError {
  const { ErrorCode: code = "Unknown", ErrorMessage: message = "", LaunchTemplateAndOverrides } = error;
  const { InstanceType = "", SubnetId } = LaunchTemplateAndOverrides?.Overrides ?? {};
  const rung = choices.find(
    ({ instanceType, subnetId }) => instanceType === (InstanceType as string) && (SubnetId ?? subnetId) === subnetId,
  ) ?? { instanceType: InstanceType, market: choices[0]?.market ?? "on-demand" };
  return { rung, class: classifyCode(code, message), code, message };
}
