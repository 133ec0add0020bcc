import { InternetGateway } from "@pulumi/aws/ec2/internetGateway";
import { MainRouteTableAssociation } from "@pulumi/aws/ec2/mainRouteTableAssociation";
import { RouteTable } from "@pulumi/aws/ec2/routeTable";
import { Subnet } from "@pulumi/aws/ec2/subnet";
import { Vpc } from "@pulumi/aws/ec2/vpc";
import * as pulumi from "@pulumi/pulumi";
import type { CloudPrepared } from "../../bootstrap/cloud/prepare";
import type { Ec2Settings } from "../../plan/ec2-ladder";

export interface Ec2NetworkArgs {
  readonly ec2: Ec2Settings;
  readonly cloud: CloudPrepared;
  readonly tags: Readonly<Record<string, string>>;
}

/** Where machines stand: a subnet a zone. */
export interface MachineSubnet {
  readonly id: string;
  readonly zone: string;
}

/** The private range of a VPC of the stack's own, of which each zone gets a sixteenth; no other VPC is ever joined to it. */
const VPC_CIDR = "10.77.0.0/16";
const SUBNET_SIZE = 16;

/** The user's subnets, or a small VPC with a public subnet in every zone of the region. */
export class Ec2Network extends pulumi.ComponentResource {
  readonly vpcId: pulumi.Output<string>;
  readonly subnets: pulumi.Output<MachineSubnet[]>;

  constructor(name: string, args: Ec2NetworkArgs, opts: pulumi.ComponentResourceOptions) {
    super("tandem:index:Ec2Network", name, {}, opts);
    const { subnets } = args.cloud;
    if (subnets !== undefined) {
      this.vpcId = pulumi.output(subnets[0]?.vpcId ?? "");
      this.subnets = pulumi.output(subnets.map(({ id, zone }) => ({ id, zone })));
    } else {
      const vpc = new Vpc(
        `${name}-vpc`,
        { cidrBlock: VPC_CIDR, enableDnsSupport: true, enableDnsHostnames: true, tags: args.tags },
        { parent: this, provider: opts.provider },
      );
      this.vpcId = vpc.id;
      this.subnets = this.ownSubnets(name, args, vpc, { parent: this, provider: opts.provider });
    }
    this.registerOutputs({ vpcId: this.vpcId });
  }

  private ownSubnets(
    name: string,
    { cloud, tags }: Ec2NetworkArgs,
    vpc: Vpc,
    opts: pulumi.CustomResourceOptions,
  ): pulumi.Output<MachineSubnet[]> {
    const gateway = new InternetGateway(`${name}-gateway`, { vpcId: vpc.id, tags }, opts);
    const routes = [{ cidrBlock: "0.0.0.0/0", gatewayId: gateway.id }];
    const table = new RouteTable(`${name}-routes`, { vpcId: vpc.id, routes, tags }, opts);
    new MainRouteTableAssociation(`${name}-main-routes`, { vpcId: vpc.id, routeTableId: table.id }, opts);
    const subnets = cloud.zones.map((zone) => {
      // By the zone's own letter: a zone that comes or goes moves no other.
      const place = (zone.charCodeAt(zone.length - 1) - "a".charCodeAt(0)) % SUBNET_SIZE;
      const cidrBlock = `10.77.${place * SUBNET_SIZE}.0/20`;
      const subnet = new Subnet(
        `${name}-${zone}`,
        { vpcId: vpc.id, availabilityZone: zone, cidrBlock, mapPublicIpOnLaunch: true, tags },
        opts,
      );
      return subnet.id.apply((id) => ({ id, zone }));
    });
    return pulumi.all(subnets);
  }
}
