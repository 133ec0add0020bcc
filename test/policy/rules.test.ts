import { describe, expect, it } from "vitest";
import { RULES, type Resource } from "../../policy/rules";

/** Names of the rules that a resource breaks. */
function broken(type: string, props: Record<string, unknown>, name = "x"): string[] {
  const resource: Resource = { type, name, props };
  return RULES.filter(({ check }) => check(resource).length > 0).map((rule) => rule.name);
}

const GROUP = "aws:ec2/securityGroup:SecurityGroup";
const TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate";

function group(...ingress: object[]): string[] {
  return broken(GROUP, { ingress });
}

const good = {
  metadataOptions: { httpTokens: "required" },
  blockDeviceMappings: [{ deviceName: "/dev/sda1", ebs: { encrypted: "true" } }],
  tagSpecifications: [{ resourceType: "instance", tags: { "tandem:expires-at": "2026-11-26T00:00:00Z" } }],
};

describe("the policy pack", () => {
  it("forbids SSH from anywhere, however it is written", () => {
    const anywhere = ["no-ssh-from-anywhere"];
    expect(group({ protocol: "tcp", fromPort: 22, toPort: 22, cidrBlocks: ["0.0.0.0/0"] })).toEqual(anywhere);
    expect(group({ protocol: "tcp", fromPort: 0, toPort: 1024, ipv6CidrBlocks: ["::/0"] })).toEqual(anywhere);
    expect(group({ protocol: "-1", fromPort: 0, toPort: 0, cidrBlocks: ["10.0.0.0/8", "0.0.0.0/0"] })).toEqual(
      anywhere,
    );
    const rule = { type: "ingress", protocol: "tcp", fromPort: 22, toPort: 22, cidrBlocks: ["0.0.0.0/0"] };
    expect(broken("aws:ec2/securityGroupRule:SecurityGroupRule", rule)).toEqual(anywhere);
    const newer = { ipProtocol: "tcp", fromPort: 22, toPort: 22, cidrIpv4: "0.0.0.0/0" };
    expect(broken("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", newer)).toEqual(anywhere);
  });

  it("lets SSH in from a named range, and everything out", () => {
    expect(group({ protocol: "tcp", fromPort: 22, toPort: 22, cidrBlocks: ["203.0.113.7/32"] })).toEqual([]);
    expect(broken(GROUP, { egress: [{ protocol: "-1", fromPort: 0, toPort: 0, cidrBlocks: ["0.0.0.0/0"] }] })).toEqual(
      [],
    );
    expect(
      broken("aws:ec2/securityGroupRule:SecurityGroupRule", {
        type: "egress",
        fromPort: 22,
        toPort: 22,
        cidrBlocks: ["0.0.0.0/0"],
      }),
    ).toEqual([]);
  });

  it("forbids any other port that is open to the whole internet", () => {
    expect(group({ protocol: "tcp", fromPort: 8000, toPort: 8000, cidrBlocks: ["0.0.0.0/0"] })).toEqual([
      "no-open-ports",
    ]);
    const gateway = { protocol: "tcp", fromPort: 8000, toPort: 8000, cidrBlocks: ["0.0.0.0/0"] };
    expect(group({ ...gateway, description: "Gateway with TLS" })).toEqual([]);
    expect(group({ ...gateway, description: "Gateway without TLS" })).toEqual(["no-open-ports"]);
    expect(group({ ...gateway, toPort: 8001, description: "Gateway with TLS" })).toEqual(["no-open-ports"]);
  });

  it("wants machines with an end, encrypted disks and tokens for their credentials", () => {
    expect(broken(TEMPLATE, good)).toEqual([]);
    expect(
      broken(TEMPLATE, {
        ...good,
        tagSpecifications: [{ resourceType: "volume", tags: good.tagSpecifications[0]!.tags }],
      }),
    ).toEqual(["machines-expire"]);
    expect(broken(TEMPLATE, { ...good, blockDeviceMappings: [{ deviceName: "/dev/sda1", ebs: {} }] })).toEqual([
      "encrypted-volumes",
    ]);
    expect(broken(TEMPLATE, { ...good, metadataOptions: { httpTokens: "optional" } })).toEqual(["imdsv2-only"]);
    expect(broken("aws:ec2/instance:Instance", {})).toEqual(["machines-expire", "encrypted-volumes", "imdsv2-only"]);
  });

  it("forbids a gateway that others reach without TLS", () => {
    const gateway = (document: object) =>
      broken("command:local:Command", { stdin: JSON.stringify({ document }) }, "prod-gateway");
    expect(gateway({ address: "0.0.0.0", tls: "off" })).toEqual(["no-public-gateway-without-tls"]);
    expect(gateway({ address: "0.0.0.0", tls: "files" })).toEqual([]);
    expect(gateway({ address: "127.0.0.1", tls: "off" })).toEqual([]);
    expect(broken("command:local:Command", { stdin: "not JSON" }, "prod-gateway")).toEqual([]);
  });

  it("has a fix in every message", () => {
    const instance = { type: "aws:ec2/instance:Instance", name: "x", props: {} };
    expect(RULES.flatMap(({ check }) => check(instance)).every((text) => text.includes("fix: "))).toBe(true);
  });
});
