import { GATEWAY_WITH_TLS } from "../plan/exposure";
import { RUN_TAGS } from "../plan/run-tags";

/** One resource as the engine is about to make it. */
export interface Resource {
  readonly type: string;
  readonly name: string;
  readonly props: Readonly<Record<string, unknown>>;
}

/** One thing that must never be deployed. */
export interface Rule {
  readonly name: string;
  readonly description: string;
  /** What is wrong with the resource, each with its fix; empty when nothing is. */
  readonly check: (resource: Resource) => readonly string[];
}

const WORLD = new Set(["0.0.0.0/0", "::/0"]);
const SSH_PORT = 22;

/** What every stack with machines must keep to, whoever wrote its settings. */
export const RULES: readonly Rule[] = [
  {
    name: "no-ssh-from-anywhere",
    description: "SSH is open to named address ranges only.",
    check: ({ type, props }) =>
      rulesOf(type, props)
        .filter((rule) => admits(rule, SSH_PORT) && isOpenToAll(rule))
        .map(
          () =>
            "SSH is open to the whole internet — fix: name your own range in `ec2.allowedCidr`, or reach it by Session Manager",
        ),
  },
  {
    name: "no-open-ports",
    description: "Nothing but a gateway with TLS is open to the whole internet.",
    check: ({ type, props }) =>
      rulesOf(type, props)
        .filter((rule) => isOpenToAll(rule) && !admits(rule, SSH_PORT) && !isGateway(rule))
        .map(
          ({ fromPort, toPort }) =>
            `ports ${String(fromPort)} to ${String(toPort)} are open to the whole internet — fix: name an address range`,
        ),
  },
  {
    name: "machines-expire",
    description: "Each rented machine bears the time when it ends itself.",
    check: ({ type, props }) =>
      machineTags(type, props)
        .filter((tags) => tags[RUN_TAGS.expiresAt] === undefined)
        .map(() => `a machine without the tag ${RUN_TAGS.expiresAt} runs, and costs, without end — fix: set \`ttl\``),
  },
  {
    name: "encrypted-volumes",
    description: "Disks of machines are encrypted.",
    check: ({ type, props }) =>
      volumesOf(type, props)
        .filter(({ encrypted }) => String(encrypted) !== "true")
        .map(({ device }) => `the volume ${device} is not encrypted — fix: set \`encrypted\` to true`),
  },
  {
    name: "imdsv2-only",
    description: "The machine's credentials are handed out only to who asks with a token.",
    check: ({ type, props }) => {
      if (!MACHINES.has(type)) return [];
      const { httpTokens, httpEndpoint } = record(props["metadataOptions"]);
      return httpTokens === "required" || httpEndpoint === "disabled"
        ? []
        : ["the metadata service answers without a token — fix: set `metadataOptions.httpTokens` to required"];
    },
  },
  {
    name: "no-public-gateway-without-tls",
    description: "A gateway that others can reach speaks TLS, and not to everybody unless that was said.",
    check: (resource) => {
      const gateway = gatewayOf(resource);
      if (gateway === undefined || gateway.address === "127.0.0.1" || gateway.tls !== "off") return [];
      return ["the gateway listens for others without TLS — fix: set `gateway.tls.mode`, or `exposure` to tunnel"];
    },
  },
];

const MACHINES = new Set([
  "aws:ec2/instance:Instance",
  "aws:ec2/launchTemplate:LaunchTemplate",
  "aws:ec2/spotInstanceRequest:SpotInstanceRequest",
]);

interface Ingress {
  readonly protocol?: unknown;
  readonly fromPort?: unknown;
  readonly toPort?: unknown;
  readonly description?: unknown;
  readonly ranges: readonly unknown[];
}

/** What a group or a rule of its own lets in. */
function rulesOf(type: string, props: Resource["props"]): Ingress[] {
  switch (type) {
    case "aws:ec2/securityGroup:SecurityGroup":
    case "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup":
      return list(props["ingress"]).map(record).map(ingress);
    case "aws:ec2/securityGroupRule:SecurityGroupRule":
      return props["type"] === "ingress" ? [ingress(props)] : [];
    case "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule":
      return [
        { ...ingress({ ...props, protocol: props["ipProtocol"] }), ranges: [props["cidrIpv4"], props["cidrIpv6"]] },
      ];
    default:
      return [];
  }
}

function ingress(rule: Readonly<Record<string, unknown>>): Ingress {
  const { protocol, fromPort, toPort, description, cidrBlocks, ipv6CidrBlocks } = rule;
  return { protocol, fromPort, toPort, description, ranges: [...list(cidrBlocks), ...list(ipv6CidrBlocks)] };
}

function admits({ protocol, fromPort, toPort }: Ingress, port: number): boolean {
  return String(protocol) === "-1" || (Number(fromPort) <= port && port <= Number(toPort));
}

/** The one port of a gateway, which `gateway.allowedCidrs: [anywhere]` opens; that it speaks TLS another rule sees to. */
function isGateway({ protocol, fromPort, toPort, description }: Ingress): boolean {
  return description === GATEWAY_WITH_TLS && protocol === "tcp" && fromPort === toPort;
}

function isOpenToAll({ ranges }: Ingress): boolean {
  return ranges.some((range) => typeof range === "string" && WORLD.has(range));
}

/** The tags that a machine will have; for a template those of what it launches. */
function machineTags(type: string, props: Resource["props"]): Readonly<Record<string, unknown>>[] {
  if (!MACHINES.has(type)) return [];
  if (type !== "aws:ec2/launchTemplate:LaunchTemplate") return [record(props["tags"])];
  const given = list(props["tagSpecifications"]).map(record);
  const ofInstances = given.find(({ resourceType }) => resourceType === "instance");
  return [record(ofInstances?.["tags"])];
}

function volumesOf(type: string, props: Resource["props"]): { device: string; encrypted: unknown }[] {
  switch (type) {
    case "aws:ebs/volume:Volume":
      return [{ device: "itself", encrypted: props["encrypted"] }];
    case "aws:ec2/launchTemplate:LaunchTemplate":
      return list(props["blockDeviceMappings"])
        .map(record)
        .filter(({ ebs }) => ebs !== undefined)
        .map(({ deviceName, ebs }) => ({ device: String(deviceName), encrypted: record(ebs)["encrypted"] }));
    case "aws:ec2/instance:Instance":
      return [
        { device: "of the root", encrypted: record(props["rootBlockDevice"])["encrypted"] },
        ...list(props["ebsBlockDevices"])
          .map(record)
          .map(({ deviceName, encrypted }) => ({ device: String(deviceName), encrypted })),
      ];
    default:
      return [];
  }
}

/** The document of a gateway's step; undefined for all else, and where it is not known yet. */
function gatewayOf({ type, name, props }: Resource): Readonly<Record<string, unknown>> | undefined {
  if (type !== "command:local:Command" || !name.endsWith("-gateway") || typeof props["stdin"] !== "string")
    return undefined;
  try {
    return record(record(JSON.parse(props["stdin"]))["document"]);
  } catch {
    return undefined;
  }
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
