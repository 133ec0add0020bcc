import { Provider } from "@pulumi/aws/provider";
import { KeyPair } from "@pulumi/aws/ec2/keyPair";
import { LaunchTemplate } from "@pulumi/aws/ec2/launchTemplate";
import { PlacementGroup } from "@pulumi/aws/ec2/placementGroup";
import { SecurityGroup } from "@pulumi/aws/ec2/securityGroup";
import * as pulumi from "@pulumi/pulumi";
import type { CloudPrepared } from "../../bootstrap/cloud/prepare";
import type { LaunchRequest } from "../../bootstrap/cloud/launch-request";
import { MACHINE_TAGS } from "../../bootstrap/cloud/machines";
import { userData } from "../../bootstrap/cloud/user-data";
import type { Prepared, PreparedHost } from "../../bootstrap/runner/prepare";
import { ec2Of, type Ec2Settings } from "../../plan/ec2-ladder";
import { exposedRanges, GATEWAY_WITH_TLS, tlsMode } from "../../plan/exposure";
import { ProblemsError } from "../../plan/problem";
import { runTags } from "../../plan/run-tags";
import type { Settings } from "../../plan/settings";
import { durationSeconds } from "../../plan/time";
import { MachineLaunch } from "../host-step";
import type { RentedMachines } from "../serving-pair";
import { Ec2Network } from "./ec2-network";

export interface Ec2MachinesArgs extends Prepared {
  readonly cloud: CloudPrepared;
}

/**
 * Machines of EC2: a network of their own where none is given, a closed security group, key, launch template, and the launch down the
 * ladder of choices. Everything that can be tagged says in the call that creates it whose it is and when it ends.
 */
export class Ec2Machines extends pulumi.ComponentResource implements RentedMachines {
  readonly hosts: pulumi.Output<readonly PreparedHost[]>;
  readonly launch: pulumi.Resource;

  /** @param name the stack's name; resources are called `<name>-<what>` */
  constructor(name: string, args: Ec2MachinesArgs, opts: pulumi.ComponentResourceOptions = {}) {
    super("tandem:index:Ec2Machines", name, {}, opts);
    const { settings, cloud } = args;
    const ec2 = ec2Of(settings);
    const tags = runTags(cloud.mark);
    const provider = new Provider(`${name}-aws`, { region: ec2.region }, { parent: this });
    const child = { parent: this, provider };

    const network = new Ec2Network(name, { ec2, cloud, tags }, child);
    const template = this.launchTemplate(name, { ...args, ec2, tags, network }, child);
    const launch = new MachineLaunch(
      `${name}-launch`,
      {
        request: launchRequest({ settings, ec2, cloud, tags, network, template }),
        launch: cloud.launch,
        reason: cloud.launchReason,
      },
      // Everything of the network is there before a machine is, and goes after it.
      { parent: this, dependsOn: [network, template] },
    );
    this.launch = launch;
    this.hosts = launch.result.apply((result) => this.observe(cloud, result.machines));
    this.registerOutputs({});
  }

  private launchTemplate(name: string, parts: TemplateParts, opts: pulumi.CustomResourceOptions): LaunchTemplate {
    const { cloud, ec2, tags, network } = parts;
    const key = new KeyPair(`${name}-key-pair`, { publicKey: cloud.key.publicKey, tags }, opts);
    const group = new SecurityGroup(
      `${name}-machines`,
      {
        description: "Tandem: in come only those whom the settings name",
        vpcId: network.vpcId,
        ingress: ingressOf(parts.settings, ec2),
        egress: [{ fromPort: 0, toPort: 0, protocol: "-1", cidrBlocks: ["0.0.0.0/0"], ipv6CidrBlocks: ["::/0"] }],
        tags,
      },
      opts,
    );
    const placement = ec2.placementGroup
      ? new PlacementGroup(`${name}-together`, { strategy: "cluster", tags }, opts)
      : undefined;
    const machineTags = { ...tags, [MACHINE_TAGS.launch]: cloud.launch };
    const tagged = ["instance", "volume", "network-interface"];
    if (cloud.rungs.some(({ market }) => market === "spot")) tagged.push("spot-instances-request");
    return new LaunchTemplate(
      `${name}-template`,
      {
        imageId: cloud.image.id,
        keyName: key.keyName,
        instanceInitiatedShutdownBehavior: "terminate",
        metadataOptions: { httpEndpoint: "enabled", httpTokens: "required", httpPutResponseHopLimit: 1 },
        blockDeviceMappings: [rootVolume(cloud)],
        networkInterfaces: [
          {
            deviceIndex: 0,
            associatePublicIpAddress: String(ec2.publicAddress),
            deleteOnTermination: "true",
            securityGroups: [group.id],
            ...(ec2.efa && { interfaceType: "efa" }),
          },
        ],
        ...(ec2.instanceProfile !== undefined && { iamInstanceProfile: { name: ec2.instanceProfile } }),
        ...(placement !== undefined && { placement: { groupName: placement.name } }),
        userData: Buffer.from(userData(cloud.mark)).toString("base64"),
        tagSpecifications: tagged.map((resourceType) => ({ resourceType, tags: machineTags })),
        updateDefaultVersion: true,
        tags,
      },
      opts,
    );
  }

  private async observe(
    cloud: CloudPrepared,
    machines: Parameters<CloudPrepared["observe"]>[0],
  ): Promise<readonly PreparedHost[]> {
    // A preview waits for nothing.
    if (pulumi.runtime.isDryRun()) return [];
    try {
      return await cloud.observe(machines, (line) => void pulumi.log.info(line, this, undefined, true));
    } catch (error) {
      // What does not fit on the machine that was had is the user's to know: its text, without a stack trace.
      if (error instanceof ProblemsError) throw new pulumi.RunError(error.message);
      throw error;
    }
  }
}

interface TemplateParts extends Ec2MachinesArgs {
  readonly ec2: Ec2Settings;
  readonly tags: Readonly<Record<string, string>>;
  readonly network: Ec2Network;
}

/** SSH, unless Session Manager is the way in, and the gateway where others may connect; each only for the addresses that were named. */
function ingressOf(settings: Settings, { reach, allowedCidr = [] }: Ec2Settings) {
  const ssh = reach === "ssh" ? [admit("SSH", 22, allowedCidr)] : [];
  const ranges = exposedRanges(settings);
  if (ranges.length === 0) return ssh;
  const name = tlsMode(settings) === "off" ? "Gateway without TLS" : GATEWAY_WITH_TLS;
  return [...ssh, admit(name, settings.port, ranges)];
}

function admit(description: string, port: number, ranges: readonly string[]) {
  const isIpv6 = (cidr: string) => cidr.includes(":");
  return {
    description,
    fromPort: port,
    toPort: port,
    protocol: "tcp",
    cidrBlocks: ranges.filter((cidr) => !isIpv6(cidr)),
    ipv6CidrBlocks: ranges.filter(isIpv6),
  };
}

function rootVolume({ image, rootVolumeGiB }: CloudPrepared) {
  return {
    deviceName: image.rootDeviceName,
    ebs: { volumeSize: rootVolumeGiB, volumeType: "gp3", encrypted: "true", deleteOnTermination: "true" },
  };
}

interface LaunchParts {
  readonly settings: Settings;
  readonly ec2: Ec2Settings;
  readonly cloud: CloudPrepared;
  readonly tags: Readonly<Record<string, string>>;
  readonly network: Ec2Network;
  readonly template: LaunchTemplate;
}

function launchRequest({ settings, ec2, cloud, tags, network, template }: LaunchParts): pulumi.Output<LaunchRequest> {
  const { maxPricePerHourUsd } = settings;
  return pulumi.all([template.id, template.latestVersion, network.subnets]).apply(([id, version, subnets]) => ({
    region: ec2.region,
    stack: cloud.mark.stack,
    tags,
    launch: cloud.launch,
    machines: ec2.machines,
    launchTemplate: { id, version: String(version) },
    rungs: cloud.rungs,
    subnets,
    ...(maxPricePerHourUsd !== undefined && { maxPricePerHourUsd }),
    waitSeconds: durationSeconds(ec2.waitForCapacity ?? "") ?? 0,
  }));
}
