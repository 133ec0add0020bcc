import {
  CreateLaunchTemplateCommand,
  DescribeSubnetsCommand,
  DescribeVpcsCommand,
  type EC2Client,
  RunInstancesCommand,
  type _InstanceType,
} from "@aws-sdk/client-ec2";
import { withClients, type Clients } from "../../bootstrap/cloud/clients";
import { digestOf, type LaunchRequest } from "../../bootstrap/cloud/launch-request";
import { MACHINE_TAGS } from "../../bootstrap/cloud/machines";
import { runTags, tagList } from "../../plan/run-tags";
import type { Aws } from "../fixtures/aws/aws";

export const REGION = "us-east-1";
/** An image that the emulator has. */
export const IMAGE = "ami-785db401";

/** Runs `work` with clients that speak to the emulator, as a process with its environment does. */
export async function withAws<Result>(
  aws: Aws,
  work: (clients: Clients) => Promise<Result>,
  region = REGION,
): Promise<Result> {
  const before = { ...process.env };
  Object.assign(process.env, aws.env);
  try {
    return await withClients(region, work);
  } finally {
    process.env = before;
  }
}

/** The account's own subnets, of which the emulator has one in each zone. */
export async function defaultSubnets(ec2: EC2Client): Promise<{ id: string; zone: string; vpcId: string }[]> {
  const { Vpcs: [vpc] = [] } = await ec2.send(
    new DescribeVpcsCommand({ Filters: [{ Name: "isDefault", Values: ["true"] }] }),
  );
  const filters = [{ Name: "vpc-id", Values: [vpc?.VpcId ?? ""] }];
  const { Subnets = [] } = await ec2.send(new DescribeSubnetsCommand({ Filters: filters }));
  return Subnets.map(({ SubnetId = "", AvailabilityZone = "", VpcId = "" }) => ({
    id: SubnetId,
    zone: AvailabilityZone,
    vpcId: VpcId,
  })).toSorted((one, other) => one.zone.localeCompare(other.zone));
}

/** A request for the launch step with a launch template of its own, in zones a and b. */
export async function launchRequest(ec2: EC2Client, more: Partial<LaunchRequest> = {}): Promise<LaunchRequest> {
  const stack = more.stack ?? `s${Math.random().toString(36).slice(2, 10)}`;
  const tags = runTags({ runId: `run-${stack}`, stack, owner: "tests@here", createdAt: new Date() });
  const launch = digestOf(stack, "first");
  const TagSpecifications = (["instance", "volume", "network-interface"] as const).map((ResourceType) => ({
    ResourceType,
    Tags: tagList({ ...tags, [MACHINE_TAGS.launch]: launch }),
  }));
  const template = await ec2.send(
    new CreateLaunchTemplateCommand({
      LaunchTemplateName: stack,
      LaunchTemplateData: {
        ImageId: IMAGE,
        InstanceInitiatedShutdownBehavior: "terminate",
        NetworkInterfaces: [{ DeviceIndex: 0, AssociatePublicIpAddress: true }],
        TagSpecifications,
      },
    }),
  );
  const subnets = (await defaultSubnets(ec2)).filter(({ zone }) => /[ab]$/.test(zone));
  return {
    region: REGION,
    stack,
    tags,
    launch,
    machines: 1,
    launchTemplate: { id: template.LaunchTemplate?.LaunchTemplateId ?? "", version: "1" },
    rungs: [{ instanceType: "g6.12xlarge", market: "on-demand" }],
    subnets,
    waitSeconds: 0,
    ...more,
  };
}

/** A machine that is not ours. */
export async function strangersMachine(ec2: EC2Client, InstanceType: string): Promise<string> {
  const type = InstanceType as _InstanceType;
  const run = new RunInstancesCommand({ ImageId: IMAGE, InstanceType: type, MinCount: 1, MaxCount: 1 });
  return (await ec2.send(run)).Instances?.[0]?.InstanceId ?? "";
}
