import {
  CreateSubnetCommand,
  CreateVpcCommand,
  DeregisterImageCommand,
  RegisterImageCommand,
} from "@aws-sdk/client-ec2";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Clients } from "../../bootstrap/cloud/clients";
import { callProblem } from "../../bootstrap/cloud/ladder-errors";
import { preflight, readAccount, type Preflight } from "../../bootstrap/cloud/preflight";
import { ladderOf, type Ec2Settings } from "../../plan/ec2-ladder";
import { parseSettings, type Settings } from "../../plan/settings";
import { startAws, type Aws } from "../fixtures/aws/aws";
import { defaultSubnets, strangersMachine, withAws } from "./workbench";

let aws: Aws;
beforeAll(async () => {
  aws = await startAws();
});
beforeEach(async () => {
  await aws.faults([]);
  await aws.quotas({ "L-DB2E81BA": 96, "L-417A185B": 192, "L-3819A6DF": 96 });
});
afterAll(() => aws.close());

async function ask(ec2: Partial<Ec2Settings> = {}): Promise<Preflight & { readonly account: string }> {
  const block = { region: "us-east-1", allowedCidr: "203.0.113.7/32", instanceTypes: ["g6.12xlarge"], ...ec2 };
  const { settings } = parseSettings({ target: "ec2", ec2: block });
  return withAws(aws, (clients) => askWith(clients, settings!), block.region);
}
async function askWith(clients: Clients, settings: Settings): Promise<Preflight & { readonly account: string }> {
  const account = await readAccount(clients);
  return { account, ...(await preflight(clients, settings.ec2!, ladderOf(settings))) };
}
const refusal = (ec2: Partial<Ec2Settings> = {}) =>
  ask(ec2).then(
    () => "nothing was wrong",
    (error: unknown) => (error as Error).message,
  );

describe("asking before creating", () => {
  it("finds the account, the image by its SSM parameter, and the zones that offer the types", async () => {
    const answer = await ask({ instanceTypes: ["g6.12xlarge", "g5.12xlarge"] });
    expect(answer.account).toBe("123456789012");
    expect(answer.image).toEqual({
      id: "ami-785db401",
      rootDeviceName: expect.stringMatching(/^\/dev\//),
      rootVolumeGiB: expect.any(Number),
    });
    expect(answer.choices.every(({ zone }) => zone !== undefined && answer.zones.includes(zone))).toBe(true);
    expect(answer.choices[0]?.instanceType).toBe("g6.12xlarge");
    const changing = /^(Create|Run|Delete|Modify|Terminate)/;
    expect((await aws.calls()).filter(({ action }) => changing.test(action))).toEqual([]);
  });

  it("says who may not, once, when credentials are no good", async () => {
    await aws.faults([
      {
        action: "GetCallerIdentity",
        code: "InvalidClientTokenId",
        message: "The security token is invalid",
        status: "403 Forbidden",
      },
    ]);
    const text = await refusal();
    expect(text).toContain("credentials: AWS does not let this client say who it is");
    expect(text.split("\n")).toHaveLength(2);
  });

  it("says what to give when there are no credentials at all", async () => {
    const before = { ...process.env };
    const none = {
      ...aws,
      env: {
        ...aws.env,
        AWS_ACCESS_KEY_ID: "",
        AWS_SECRET_ACCESS_KEY: "",
        AWS_CONFIG_FILE: "/dev/null",
        AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
      },
    };
    const { settings } = parseSettings({
      target: "ec2",
      ec2: { region: "us-east-1", allowedCidr: "203.0.113.7/32", instanceTypes: "g6.xlarge" },
    });
    const asking = withAws(none, (clients) => askWith(clients, settings!));
    await expect(asking).rejects.toThrow(/credentials: AWS does not let .* AWS_PROFILE/);
    process.env = before;
  });

  it("refuses a region that the account has not switched on, and one that AWS does not have", async () => {
    expect(await refusal({ region: "me-south-1" })).toContain(
      "ec2.region: this account has not switched the region on",
    );
    const lost = Object.assign(new Error("getaddrinfo ENOTFOUND ec2.us-east-7.amazonaws.com"), { code: "ENOTFOUND" });
    expect(callProblem(lost, "say who it is", "us-east-7")).toMatchObject({
      setting: "ec2.region",
      value: "us-east-7",
    });
  });

  it("counts the account's own machines against the quota, before anything is asked for", async () => {
    expect(await refusal({ machines: 2 })).toBe("nothing was wrong");
    const id = await withAws(aws, ({ ec2 }) => strangersMachine(ec2, "g5.12xlarge"));
    expect(id).toMatch(/^i-/);
    const text = await refusal({ machines: 2 });
    expect(text).toContain(
      'the account may run 96 vCPUs of "Running On-Demand G and VT instances", 48 run already, and this needs 96',
    );
    expect(text).toContain("ask for 144 at Service Quotas (ec2, L-DB2E81BA)");
    expect(
      (await ask({ machines: 2, markets: ["on-demand", "spot"] })).choices.every(({ market }) => market === "spot"),
    ).toBe(true);
  });

  it("asks EC2 itself where the quota can't be read", async () => {
    await aws.quotas({ "L-DB2E81BA": 0 });
    expect(await refusal()).toContain("the account may run 0 vCPUs");
    await aws.faults([
      { action: "GetServiceQuota", code: "AccessDeniedException", message: "no", status: "400 Bad Request" },
    ]);
    expect(await refusal()).toBe("nothing was wrong");
  });

  it("refuses a zone that does not offer the type, and names those that do", async () => {
    const text = await refusal({ instanceTypes: ["p4de.24xlarge"], zones: ["us-east-1a"] });
    expect(text).toContain(
      "ec2.zones: the zone does not offer this type — got p4de.24xlarge in us-east-1a, on-demand — allowed: us-east-1",
    );
  });

  it("refuses an image that is gone, a parameter that is not there and an image for another processor", async () => {
    expect(await refusal({ ami: "ami-0123456789abcdef0" })).toContain("ec2.ami: there is no such image in this region");
    expect(await refusal({ ami: "/aws/service/nothing" })).toContain("ec2.ami: there is no such SSM parameter");
    const register = new RegisterImageCommand({ Name: "arm", Architecture: "arm64", RootDeviceName: "/dev/sda1" });
    const ami = await withAws(aws, async ({ ec2 }) => (await ec2.send(register)).ImageId ?? "");
    expect(await refusal({ ami })).toMatch(/ec2\.ami: the image is for /);
    await withAws(aws, ({ ec2 }) => ec2.send(new DeregisterImageCommand({ ImageId: ami })));
    expect(await refusal({ ami })).toMatch(/ec2\.ami: (there is no such image|the image is deregistered)/);
  });

  it("refuses subnets that are full, are not there, or lie where the type is not offered", async () => {
    const subnets = await withAws(aws, ({ ec2 }) => defaultSubnets(ec2));
    const [first] = subnets;
    expect((await ask({ subnetIds: [first?.id ?? ""] })).choices).toEqual([
      { instanceType: "g6.12xlarge", market: "on-demand", zone: first?.zone },
    ]);
    expect(await refusal({ subnetIds: ["subnet-0123456789abcdef0"] })).toContain("ec2.subnetIds: ");
    expect(await refusal({ subnetIds: [first?.id ?? ""], zones: ["us-east-1b"] })).toContain(
      "none of the subnets is in a zone that offers it (us-east-1b)",
    );
  });

  it("refuses a subnet with fewer free addresses than machines are wanted", async () => {
    await aws.quotas({ "L-DB2E81BA": 1000 });
    const id = await withAws(aws, async ({ ec2 }) => {
      const vpc = await ec2.send(new CreateVpcCommand({ CidrBlock: "10.66.0.0/16" }));
      const place = { VpcId: vpc.Vpc?.VpcId, AvailabilityZone: "us-east-1a", CidrBlock: "10.66.1.0/28" };
      return (await ec2.send(new CreateSubnetCommand(place))).Subnet?.SubnetId ?? "";
    });
    expect(await refusal({ subnetIds: [id], machines: 12 })).toContain(
      `has 12 addresses free: ${id} in us-east-1a with 11 free addresses`,
    );
    expect(await refusal({ subnetIds: [id], machines: 11 })).toBe("nothing was wrong");
  });

  it("collects everything that is wrong", async () => {
    const text = await refusal({ ami: "/aws/service/nothing", subnetIds: ["subnet-0123456789abcdef0"] });
    expect(text.split("\n").slice(1).toSorted()).toEqual([
      expect.stringContaining("ec2.ami"),
      expect.stringContaining("ec2.subnetIds"),
    ]);
  });
});
