import { paginateDescribeInstances, type Instance } from "@aws-sdk/client-ec2";
import type { Market } from "../../plan/settings-ec2";
import { RUN_TAGS } from "../../plan/run-tags";
import type { Clients } from "./clients";

/** Tags of the machines beside the run's. */
export const MACHINE_TAGS = {
  /** Which launch a machine belongs to: machines of another one are not taken for its own. */
  launch: "tandem:launch",
  /** What the machine is called in its stack, e.g. `ec2-1`; set once it is there. */
  name: "tandem:machine",
} as const;

/** One instance of a stack as EC2 shows it. */
export interface Machine {
  readonly instanceId: string;
  /** Absent until it was named. */
  readonly name?: string;
  readonly state: string;
  /** Why EC2 ended it, where it says so. */
  readonly stateReason?: string;
  readonly instanceType: string;
  readonly zone: string;
  readonly market: Market;
  readonly imageId: string;
  readonly rootDeviceName: string;
  readonly publicAddress?: string;
  readonly privateAddress: string;
  readonly fleetId?: string;
  readonly tags: Readonly<Record<string, string>>;
}

/** Instances that cost money or come back by themselves. */
const LIVING = ["pending", "running", "stopping", "stopped"];

/** Tags that EC2 writes on what it launches for a fleet, and nobody else can write: all machines of Tandem have them. */
export const EC2_TAGS = { fleet: "aws:ec2:fleet-id", template: "aws:ec2launchtemplate:id" } as const;

/**
 * The stack's instances that live, by their tags alone, in the order of their names. One that only bears the tags is none of them: keys
 * and tokens would go to whoever wrote them.
 */
export async function livingMachines(clients: Clients, stack: string): Promise<Machine[]> {
  const found = await findMachines(clients, [
    { Name: `tag:${RUN_TAGS.stack}`, Values: [stack] },
    { Name: "instance-state-name", Values: LIVING },
  ]);
  return found.filter(({ tags }) => Object.values(EC2_TAGS).some((name) => tags[name] !== undefined));
}

/** The instances that pass EC2's filters, living or not. */
export async function findMachines(
  { ec2 }: Clients,
  Filters: readonly { readonly Name: string; readonly Values: string[] }[],
): Promise<Machine[]> {
  const machines: Machine[] = [];
  for await (const { Reservations = [] } of paginateDescribeInstances({ client: ec2 }, { Filters: [...Filters] })) {
    machines.push(...Reservations.flatMap(({ Instances = [] }) => Instances).map(toMachine));
  }
  return machines.toSorted((one, other) => orderOf(one).localeCompare(orderOf(other), "en", { numeric: true }));
}

function orderOf({ name = "", instanceId }: Machine): string {
  return `${name} ${instanceId}`;
}

function toMachine(instance: Instance): Machine {
  const tags = Object.fromEntries((instance.Tags ?? []).map(({ Key = "", Value = "" }) => [Key, Value]));
  return {
    instanceId: instance.InstanceId ?? "",
    name: tags[MACHINE_TAGS.name],
    state: instance.State?.Name ?? "unknown",
    stateReason: instance.StateReason?.Message,
    instanceType: instance.InstanceType ?? "",
    zone: instance.Placement?.AvailabilityZone ?? "",
    market: instance.InstanceLifecycle === "spot" ? "spot" : "on-demand",
    imageId: instance.ImageId ?? "",
    rootDeviceName: instance.RootDeviceName ?? "/dev/sda1",
    publicAddress: instance.PublicIpAddress,
    privateAddress: instance.PrivateIpAddress ?? "",
    fleetId: tags[EC2_TAGS.fleet],
    tags,
  };
}
