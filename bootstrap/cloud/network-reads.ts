import {
  DescribeAvailabilityZonesCommand,
  DescribeRegionsCommand,
  DescribeSubnetsCommand,
  paginateDescribeInstanceTypeOfferings,
  type _InstanceType,
} from "@aws-sdk/client-ec2";
import { nearestName } from "../../plan/nearest";
import { ProblemsError, type Problem } from "../../plan/problem";
import type { Clients } from "./clients";
import { callProblem, errorCode } from "./ladder-errors";

/** A subnet of the user's, or of the stack. */
export interface Subnet {
  readonly id: string;
  readonly zone: string;
  readonly vpcId: string;
  readonly freeAddresses: number;
}

/** The problem of a region that there is not, or that the account has not switched on. */
export async function regionProblem({ ec2, region }: Clients): Promise<Problem | undefined> {
  const { Regions = [] } = await ec2.send(new DescribeRegionsCommand({ AllRegions: true }));
  const names = Regions.map(({ RegionName }) => RegionName ?? "");
  const found = Regions.find(({ RegionName }) => RegionName === region);
  const setting = "ec2.region";
  if (found === undefined) {
    const near = nearestName(region, names);
    return {
      setting,
      what: "AWS has no such region",
      value: region,
      allowed: names.join(", "),
      ...(near !== undefined && { fix: `use \`${near}\`` }),
    };
  }
  if (found.OptInStatus !== "not-opted-in") return undefined;
  return { setting, what: "this account has not switched the region on", value: region, fix: "choose another region" };
}

/** The region's ordinary zones, sorted. */
export async function readZones({ ec2 }: Clients): Promise<string[]> {
  const filters = [
    { Name: "zone-type", Values: ["availability-zone"] },
    { Name: "state", Values: ["available"] },
  ];
  const { AvailabilityZones = [] } = await ec2.send(new DescribeAvailabilityZonesCommand({ Filters: filters }));
  return AvailabilityZones.flatMap(({ ZoneName }) => ZoneName ?? []).toSorted();
}

/** The zones that offer each of the types. */
export async function readOfferings({ ec2 }: Clients, types: readonly string[]): Promise<Map<string, string[]>> {
  const offered = new Map<string, string[]>(types.map((type) => [type, []]));
  const input = {
    LocationType: "availability-zone" as const,
    Filters: [{ Name: "instance-type", Values: [...types] }],
  };
  for await (const page of paginateDescribeInstanceTypeOfferings({ client: ec2 }, input)) {
    for (const { InstanceType, Location } of page.InstanceTypeOfferings ?? []) {
      if (Location !== undefined) offered.get(InstanceType as _InstanceType)?.push(Location);
    }
  }
  return offered;
}

/** The subnets with these ids. @throws ProblemsError for one that is not there, and for several VPCs or two in one zone */
export async function readSubnets(clients: Clients, ids: readonly string[]): Promise<Subnet[]> {
  const setting = "ec2.subnetIds";
  const subnets = await describeSubnets(clients, ids);
  const vpcs = new Set(subnets.map(({ vpcId }) => vpcId));
  const zones = subnets.map(({ zone }) => zone);
  const twice = zones.find((zone, index) => zones.indexOf(zone) !== index);
  if (vpcs.size > 1) {
    throw new ProblemsError([{ setting, what: "the subnets are of several VPCs", value: [...vpcs].join(", ") }]);
  }
  if (twice !== undefined) {
    throw new ProblemsError([{ setting, what: "two subnets are in one zone", value: twice, fix: "name one of them" }]);
  }
  return subnets;
}

async function describeSubnets(clients: Clients, ids: readonly string[]): Promise<Subnet[]> {
  try {
    const { Subnets = [] } = await clients.ec2.send(new DescribeSubnetsCommand({ SubnetIds: [...ids] }));
    return Subnets.map((subnet) => ({
      id: subnet.SubnetId ?? "",
      zone: subnet.AvailabilityZone ?? "",
      vpcId: subnet.VpcId ?? "",
      freeAddresses: subnet.AvailableIpAddressCount ?? 0,
    })).toSorted((one, other) => ids.indexOf(one.id) - ids.indexOf(other.id));
  } catch (error) {
    if (!/InvalidSubnetI/.test(errorCode(error))) throw error;
    const what = error instanceof Error ? error.message : "there is no such subnet";
    throw new ProblemsError([
      { setting: "ec2.subnetIds", what, value: ids.join(", "), fix: "name subnets of this region" },
    ]);
  }
}

/** What a failed read means for the settings; problems stay what they are. */
export function readingProblems(error: unknown, what: string, region: string): readonly Problem[] {
  return error instanceof ProblemsError ? error.problems : [callProblem(error, what, region)];
}
