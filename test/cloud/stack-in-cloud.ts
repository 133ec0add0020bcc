import {
  AllocateAddressCommand,
  AttachInternetGatewayCommand,
  AuthorizeSecurityGroupIngressCommand,
  CreateInternetGatewayCommand,
  CreateKeyPairCommand,
  CreateLaunchTemplateCommand,
  CreateNetworkInterfaceCommand,
  CreatePlacementGroupCommand,
  CreateRouteTableCommand,
  CreateSecurityGroupCommand,
  CreateSubnetCommand,
  CreateVolumeCommand,
  CreateVpcCommand,
  DescribeRouteTablesCommand,
  type EC2Client,
  type ResourceType,
  ReplaceRouteTableAssociationCommand,
  RunInstancesCommand,
} from "@aws-sdk/client-ec2";
import { type RunMark, tagList } from "../../plan/run-tags";

export const IMAGE = "ami-785db401";

/** A run that began an hour ago and ends in one. */
export function markOf(stack: string, more: Partial<RunMark> = {}): RunMark {
  const now = Date.now();
  return {
    runId: `${stack}-run`,
    stack,
    owner: "ada@laptop",
    createdAt: new Date(now - 3_600_000),
    expiresAt: new Date(now + 3_600_000),
    ...more,
  };
}

type Tags = Readonly<Record<string, string>>;
const as = (ResourceType: ResourceType, tags: Tags) => [{ ResourceType, Tags: tagList(tags) }];

/** An instance, which brings a volume and an interface, in a subnet of its own, and a loose volume: five things. @returns ids by kind */
export async function makeSmallStack(ec2: EC2Client, tags: Tags): Promise<Map<string, string>> {
  const { VpcId, SubnetId } = await makeNetwork(ec2, tags);
  const [volume, instance] = await Promise.all([makeVolume(ec2, tags), runInstance(ec2, tags, { SubnetId })]);
  return new Map([
    ["vpc", VpcId],
    ["subnet", SubnetId],
    ["volume", volume],
    ["instance", instance],
  ]);
}

/** Makes one of everything that a stack may have in EC2, tagged in the call that creates it. @returns ids by kind */
export async function makeStack(ec2: EC2Client, tags: Tags): Promise<Map<string, string>> {
  const name = tags["tandem:stack"] ?? "others";
  const { VpcId, SubnetId } = await makeNetwork(ec2, tags);
  const gateway = await ec2.send(new CreateInternetGatewayCommand({ TagSpecifications: as("internet-gateway", tags) }));
  const InternetGatewayId = gateway.InternetGateway?.InternetGatewayId ?? "";
  await ec2.send(new AttachInternetGatewayCommand({ InternetGatewayId, VpcId }));
  const routes = await ec2.send(new CreateRouteTableCommand({ VpcId, TagSpecifications: as("route-table", tags) }));
  await makeMain(ec2, VpcId, routes.RouteTable?.RouteTableId ?? "");
  const group = await ec2.send(
    new CreateSecurityGroupCommand({
      GroupName: name,
      Description: name,
      VpcId,
      TagSpecifications: as("security-group", tags),
    }),
  );
  const GroupId = group.GroupId ?? "";
  const IpPermissions = [{ IpProtocol: "-1", UserIdGroupPairs: [{ GroupId }] }];
  await ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId, IpPermissions }));
  const key = await ec2.send(new CreateKeyPairCommand({ KeyName: name, TagSpecifications: as("key-pair", tags) }));
  const placement = await ec2.send(
    new CreatePlacementGroupCommand({
      GroupName: name,
      Strategy: "cluster",
      TagSpecifications: as("placement-group", tags),
    }),
  );
  const template = await ec2.send(
    new CreateLaunchTemplateCommand({
      LaunchTemplateName: name,
      LaunchTemplateData: { ImageId: IMAGE, InstanceType: "g6.12xlarge" },
      TagSpecifications: as("launch-template", tags),
    }),
  );
  const nic = await ec2.send(
    new CreateNetworkInterfaceCommand({
      SubnetId,
      Groups: [GroupId],
      TagSpecifications: as("network-interface", tags),
    }),
  );
  const address = await ec2.send(new AllocateAddressCommand({ TagSpecifications: as("elastic-ip", tags) }));
  return new Map([
    ["vpc", VpcId],
    ["subnet", SubnetId],
    ["internet-gateway", InternetGatewayId],
    ["route-table", routes.RouteTable?.RouteTableId ?? ""],
    ["security-group", GroupId],
    ["key-pair", key.KeyPairId ?? ""],
    ["placement-group", placement.PlacementGroup?.GroupId ?? ""],
    ["launch-template", template.LaunchTemplate?.LaunchTemplateId ?? ""],
    ["network-interface", nic.NetworkInterface?.NetworkInterfaceId ?? ""],
    ["volume", await makeVolume(ec2, tags)],
    ["elastic-ip", address.AllocationId ?? ""],
    ["instance", await runInstance(ec2, tags, { SubnetId, SecurityGroupIds: [GroupId] })],
  ]);
}

/** As a stack's network does: the table that AWS made with the VPC is left over, without tags. */
async function makeMain(ec2: EC2Client, vpcId: string, RouteTableId: string): Promise<void> {
  const Filters = [
    { Name: "vpc-id", Values: [vpcId] },
    { Name: "association.main", Values: ["true"] },
  ];
  const { RouteTables = [] } = await ec2.send(new DescribeRouteTablesCommand({ Filters }));
  const AssociationId = RouteTables[0]?.Associations?.[0]?.RouteTableAssociationId;
  await ec2.send(new ReplaceRouteTableAssociationCommand({ AssociationId, RouteTableId }));
}

async function makeNetwork(ec2: EC2Client, tags: Tags): Promise<{ VpcId: string; SubnetId: string }> {
  const vpc = await ec2.send(new CreateVpcCommand({ CidrBlock: "10.7.0.0/16", TagSpecifications: as("vpc", tags) }));
  const VpcId = vpc.Vpc?.VpcId ?? "";
  const subnet = await ec2.send(
    new CreateSubnetCommand({ VpcId, CidrBlock: "10.7.1.0/24", TagSpecifications: as("subnet", tags) }),
  );
  return { VpcId, SubnetId: subnet.Subnet?.SubnetId ?? "" };
}

async function makeVolume(ec2: EC2Client, tags: Tags): Promise<string> {
  const place = { AvailabilityZone: "us-east-1a", Size: 10 };
  const { VolumeId } = await ec2.send(new CreateVolumeCommand({ ...place, TagSpecifications: as("volume", tags) }));
  return VolumeId ?? "";
}

/** As the launch step's, a machine from a template; that one is nobody's. */
async function runInstance(ec2: EC2Client, tags: Tags, place: object): Promise<string> {
  const LaunchTemplate = { LaunchTemplateId: await strangersTemplate(ec2) };
  return runInstanceAs(ec2, tags, { ...place, LaunchTemplate });
}

async function strangersTemplate(ec2: EC2Client): Promise<string> {
  const LaunchTemplateName = `template-${Math.random().toString(36).slice(2)}`;
  const LaunchTemplateData = { ImageId: IMAGE };
  const made = await ec2.send(new CreateLaunchTemplateCommand({ LaunchTemplateName, LaunchTemplateData }));
  return made.LaunchTemplate?.LaunchTemplateId ?? "";
}

/** A machine with these tags, which nothing but the call itself made. */
export async function runInstanceAs(ec2: EC2Client, tags: Tags, place: object = {}): Promise<string> {
  const { Instances = [] } = await ec2.send(
    new RunInstancesCommand({
      ImageId: IMAGE,
      InstanceType: "g6.12xlarge",
      MinCount: 1,
      MaxCount: 1,
      InstanceInitiatedShutdownBehavior: "terminate",
      TagSpecifications: (["instance", "volume", "network-interface"] as const).flatMap((kind) => as(kind, tags)),
      ...place,
    }),
  );
  return Instances[0]?.InstanceId ?? "";
}
