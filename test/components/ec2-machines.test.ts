import * as pulumi from "@pulumi/pulumi";
import { beforeAll, describe, expect, it } from "vitest";
import type { LaunchRequest } from "../../bootstrap/cloud/launch-request";
import type { CloudPrepared } from "../../bootstrap/cloud/prepare";
import { Ec2Machines } from "../../components/machines/ec2";
import { formatProblem } from "../../plan/problem";
import { parseSettings, type SettingsInput } from "../../plan/settings";
import { RULES } from "../../policy/rules";
import { inputFailures } from "../fixtures/ec2/inputs";

interface Recorded {
  readonly type: string;
  readonly inputs: Record<string, unknown>;
}
let recorded = new Map<string, Recorded>();
const observed: string[] = [];

const CLOUD: CloudPrepared = {
  mark: {
    runId: "s-0a1b2c",
    stack: "s",
    owner: "ada@desk",
    createdAt: new Date("2026-11-25T10:00:00Z"),
    expiresAt: new Date("2026-11-25T14:00:00Z"),
  },
  launch: "aa-bb",
  launchReason: "there is no machine",
  rungs: [
    { instanceType: "g6.xlarge", market: "spot" },
    { instanceType: "g5.xlarge", market: "on-demand" },
  ],
  image: { id: "ami-1", rootDeviceName: "/dev/sda1", rootVolumeGiB: 65 },
  rootVolumeGiB: 120,
  zones: ["us-east-1a", "us-east-1b"],
  key: { identityFile: "/keys/s", publicKey: "ssh-ed25519 AAAA" },
  observe: (machines) => {
    observed.push(...machines.map(({ name }) => name));
    return Promise.resolve([]);
  },
};
const TAGS = {
  "tandem:created-by": "tandem",
  "tandem:run-id": "s-0a1b2c",
  "tandem:stack": "s",
  "tandem:owner": "ada@desk",
  "tandem:created-at": "2026-11-25T10:00:00Z",
  "tandem:expires-at": "2026-11-25T14:00:00Z",
};
const MACHINE = { name: "ec2-1", instanceId: "i-1", instanceType: "g6.xlarge", zone: "us-east-1a", market: "spot" };

async function make(
  ec2: Partial<NonNullable<SettingsInput["ec2"]>> = {},
  cloud: Partial<CloudPrepared> = {},
  more: SettingsInput = {},
): Promise<void> {
  recorded = new Map();
  const { settings, problems } = parseSettings({
    target: "ec2",
    gpus: 1,
    ec2: { region: "us-east-1", allowedCidr: ["203.0.113.7/32", "2001:db8::/48"], ...ec2 },
    ...more,
  });
  if (settings === undefined) throw new Error(problems.map(formatProblem).join("\n"));
  const machines = new Ec2Machines("s", { settings, hosts: [], cloud: { ...CLOUD, ...cloud } });
  await new Promise((resolve) => machines.hosts.apply(resolve));
}

beforeAll(async () => {
  await pulumi.runtime.setMocks({
    newResource: ({ name, type, inputs }) => {
      recorded.set(name, { type, inputs });
      const stdout = JSON.stringify({ region: "us-east-1", machines: [MACHINE] });
      const more = type === "command:local:Command" ? { stdout } : { latestVersion: 3, keyName: "k", name: "n" };
      return { id: `${name}-id`, state: { ...inputs, ...more } };
    },
    call: () => ({}),
  });
});

const inputsOf = (name: string) => recorded.get(name)?.inputs ?? {};
const requestOf = () => JSON.parse(String(inputsOf("s-launch")["stdin"])) as LaunchRequest;
/** The rules of the policy pack that a resource breaks. */
const broken = (name: string) => {
  const { type = "", inputs = {} } = recorded.get(name) ?? {};
  return RULES.filter(({ check }) => check({ type, name, props: inputs }).length > 0).map((rule) => rule.name);
};
const aws = () => [...recorded.values()].filter(({ type }) => type.startsWith("aws:"));

describe("Ec2Machines", () => {
  it("says on everything that it creates whose it is and when it ends", async () => {
    await make({ placementGroup: true });
    const untaggable = ["aws:ec2/mainRouteTableAssociation:MainRouteTableAssociation"];
    for (const { type, inputs } of aws().filter(({ type }) => !untaggable.includes(type))) {
      expect(inputs["tags"], type).toEqual(TAGS);
    }
    const specifications = inputsOf("s-template")["tagSpecifications"] as { resourceType: string; tags: object }[];
    expect(specifications.map(({ resourceType }) => resourceType)).toEqual([
      "instance",
      "volume",
      "network-interface",
      "spot-instances-request",
    ]);
    for (const { tags } of specifications) expect(tags).toEqual({ ...TAGS, "tandem:launch": "aa-bb" });
    expect(requestOf().tags).toEqual(TAGS);
  });

  it("gives every resource the arguments that its type has", async () => {
    await make({ placementGroup: true, instanceProfile: "p", efa: true, instanceTypes: "p5.48xlarge" });
    expect(aws().length).toBeGreaterThan(8);
    for (const { type, inputs } of aws()) expect(inputFailures(type, inputs), type).toEqual([]);
  });

  it("lets in SSH from the named addresses and nothing else", async () => {
    await make();
    expect(inputsOf("s-machines")["ingress"]).toEqual([
      {
        description: "SSH",
        fromPort: 22,
        toPort: 22,
        protocol: "tcp",
        cidrBlocks: ["203.0.113.7/32"],
        ipv6CidrBlocks: ["2001:db8::/48"],
      },
    ]);
    await make({ reach: "ssm", instanceProfile: "p" });
    expect(inputsOf("s-machines")["ingress"]).toEqual([]);
    expect(inputsOf("s-template")["iamInstanceProfile"]).toEqual({ name: "p" });
  });

  it("opens the gateway's port to exactly those who may connect, and only where others may", async () => {
    const gatewayRule = () => (inputsOf("s-machines")["ingress"] as { fromPort: number }[]).slice(1);
    await make(
      {},
      {},
      { exposure: "private", port: 8443, gateway: { allowedCidrs: ["198.51.100.0/24", "2001:db8:1::/48"] } },
    );
    const rule = { description: "Gateway with TLS", fromPort: 8443, toPort: 8443, protocol: "tcp" };
    expect(gatewayRule()).toEqual([{ ...rule, cidrBlocks: ["198.51.100.0/24"], ipv6CidrBlocks: ["2001:db8:1::/48"] }]);
    expect(broken("s-machines")).toEqual([]);
    await make({}, {}, { exposure: "private", port: 8443, gateway: { allowedCidrs: ["anywhere"] } });
    expect(gatewayRule()).toEqual([{ ...rule, cidrBlocks: ["0.0.0.0/0"], ipv6CidrBlocks: ["::/0"] }]);
    expect(broken("s-machines")).toEqual([]);
    await make({}, {}, { exposure: "private", gateway: { allowedCidrs: ["anywhere"], tls: { mode: "off" } } });
    expect(broken("s-machines")).toEqual(["no-open-ports"]);
    await make({ publicAddress: false, subnetIds: "subnet-0123456789abcdef0" }, {}, { exposure: "private" });
    expect(gatewayRule()).toEqual([
      expect.objectContaining({ cidrBlocks: ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"] }),
    ]);
    await make({}, {}, { exposure: "tunnel", gateway: { allowedCidrs: ["198.51.100.0/24"] } });
    expect(gatewayRule()).toEqual([]);
  });

  it("makes machines that ask for a token, encrypt their disk, and end when they shut down", async () => {
    await make();
    expect(inputsOf("s-template")).toMatchObject({
      imageId: "ami-1",
      instanceInitiatedShutdownBehavior: "terminate",
      metadataOptions: { httpTokens: "required", httpPutResponseHopLimit: 1 },
      blockDeviceMappings: [
        {
          deviceName: "/dev/sda1",
          ebs: { volumeSize: 120, volumeType: "gp3", encrypted: "true", deleteOnTermination: "true" },
        },
      ],
      networkInterfaces: [{ deviceIndex: 0, associatePublicIpAddress: "true", securityGroups: ["s-machines-id"] }],
    });
    const userData = Buffer.from(String(inputsOf("s-template")["userData"]), "base64").toString();
    expect(userData).toMatch(/^#!\/bin\/sh\n/);
    expect(userData).toContain("tandem-expiry.timer");
  });

  it("hands the launch the ladder, the subnets, the template's version and the limit of the price", async () => {
    await make({ machines: 2, waitForCapacity: "2h" }, {}, { maxPricePerHourUsd: 3 });
    expect(requestOf()).toEqual({
      region: "us-east-1",
      stack: "s",
      tags: TAGS,
      launch: "aa-bb",
      machines: 2,
      launchTemplate: { id: "s-template-id", version: "3" },
      rungs: CLOUD.rungs,
      subnets: [
        { id: "s-us-east-1a-id", zone: "us-east-1a" },
        { id: "s-us-east-1b-id", zone: "us-east-1b" },
      ],
      maxPricePerHourUsd: 3,
      waitSeconds: 7200,
    });
    expect(inputsOf("s-launch")).toMatchObject({
      triggers: ["aa-bb"],
      environment: { TANDEM_REPAIR: expect.stringMatching(/^there is no machine #/) },
    });
    expect(observed).toContain("ec2-1");
  });

  it("keeps a zone's addresses when another zone comes or goes, and makes no network in the user's subnets", async () => {
    await make({}, { zones: ["us-east-1b", "us-east-1f"] });
    expect(inputsOf("s-us-east-1b")["cidrBlock"]).toBe("10.77.16.0/20");
    expect(inputsOf("s-us-east-1f")["cidrBlock"]).toBe("10.77.80.0/20");
    const subnets = [{ id: "subnet-1", zone: "us-east-1a", vpcId: "vpc-1", freeAddresses: 9 }];
    await make({ subnetIds: "subnet-0123456789abcdef0" }, { subnets });
    expect(requestOf().subnets).toEqual([{ id: "subnet-1", zone: "us-east-1a" }]);
    expect(inputsOf("s-machines")["vpcId"]).toBe("vpc-1");
    expect(
      aws()
        .map(({ type }) => type)
        .filter((type) => /vpc|subnet|gateway|route/i.test(type)),
    ).toEqual([]);
  });

  it("asks for machines close together, and for EFA, where that is wanted", async () => {
    await make();
    expect(inputsOf("s-template")["placement"]).toBeUndefined();
    await make({ placementGroup: true, efa: true, instanceTypes: "p5.48xlarge" });
    expect(inputsOf("s-together")["strategy"]).toBe("cluster");
    expect(inputsOf("s-template")["placement"]).toEqual({ groupName: "n" });
    expect(inputsOf("s-template")["networkInterfaces"]).toEqual([expect.objectContaining({ interfaceType: "efa" })]);
  });
});
