import { CreateLaunchTemplateCommand, StopInstancesCommand } from "@aws-sdk/client-ec2";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { launchMachines } from "../../bootstrap/cloud/launch";
import { prepareEc2, type CloudPrepared } from "../../bootstrap/cloud/prepare";
import { MACHINE_TAGS } from "../../bootstrap/cloud/machines";
import type { Prepared } from "../../bootstrap/runner/prepare";
import { ec2Of } from "../../plan/ec2-ladder";
import { runTags, tagList } from "../../plan/run-tags";
import { parseSettings, type Settings, type SettingsInput } from "../../plan/settings";
import { startAws, type Aws } from "../fixtures/aws/aws";
import { defaultSubnets, IMAGE, REGION, withAws } from "./workbench";

let aws: Aws;
let home: string;
let stack = "";
beforeAll(async () => {
  aws = await startAws();
  await aws.settings({ terminationSeconds: 0.2 });
  await aws.quotas({ "L-DB2E81BA": 10_000 });
  // Where nothing answers, and at once.
  await aws.addresses(Array.from({ length: 20 }, () => "127.0.0.1"));
  home = mkdtempSync(path.join(tmpdir(), "tandem-prepare-"));
});
beforeEach(() => {
  stack = `s${Math.random().toString(36).slice(2, 10)}`;
});
afterAll(async () => {
  await aws.close();
  rmSync(home, { recursive: true, force: true });
});

function settingsOf(ec2: Partial<NonNullable<SettingsInput["ec2"]>> = {}, more: SettingsInput = {}): Settings {
  const block = { region: REGION, allowedCidr: "203.0.113.7/32", instanceTypes: ["g6.12xlarge"], owner: "ada", ...ec2 };
  const { settings } = parseSettings({ target: "ec2", model: "org/small", gpus: 4, ttl: "4h", ec2: block, ...more });
  return settings!;
}

/** As a run does, with the folder of a user of its own. The model is a directory, so that no hub is asked. */
async function prepare(
  ec2: Partial<NonNullable<SettingsInput["ec2"]>> = {},
  more: SettingsInput = {},
): Promise<Prepared & { cloud: CloudPrepared }> {
  const model = path.join(__dirname, "fixtures/model");
  return withAws({ ...aws, env: { ...aws.env, TANDEM_HOME: home } }, async () => {
    const prepared = await prepareEc2(settingsOf(ec2, { model, ...more }), stack, {});
    return { ...prepared, cloud: prepared.cloud! };
  });
}

/** What the program makes of it: a template with the run's tags, and the launch. */
async function launch({ settings, cloud }: Prepared & { cloud: CloudPrepared }): Promise<string[]> {
  return withAws(aws, async (clients) => {
    const tags = runTags(cloud.mark);
    const TagSpecifications = [
      { ResourceType: "instance" as const, Tags: tagList({ ...tags, [MACHINE_TAGS.launch]: cloud.launch }) },
    ];
    const NetworkInterfaces = [{ DeviceIndex: 0, AssociatePublicIpAddress: true }];
    const template = await clients.ec2.send(
      new CreateLaunchTemplateCommand({
        LaunchTemplateName: `${stack}-${cloud.launch}`,
        LaunchTemplateData: { ImageId: IMAGE, TagSpecifications, NetworkInterfaces },
      }),
    );
    const request = {
      ...{ region: REGION, stack, tags, launch: cloud.launch, rungs: cloud.rungs, waitSeconds: 0 },
      machines: ec2Of(settings).machines,
      launchTemplate: { id: template.LaunchTemplate?.LaunchTemplateId ?? "", version: "1" },
      subnets: await defaultSubnets(clients.ec2),
    };
    const { machines } = await launchMachines(clients, request, { onProgress: () => undefined });
    return machines.map(({ instanceId }) => instanceId);
  });
}

describe("preparing a stack on EC2", () => {
  it("plans machines that there are not yet, and changes nothing in the cloud", async () => {
    const before = (await aws.calls()).length;
    const { hosts, cloud } = await prepare({ machines: 2 });
    expect(hosts.map(({ host }) => [host.name, host.isPlanned, host.facts.gpus.length])).toEqual([
      ["ec2-1", true, 4],
      ["ec2-2", true, 4],
    ]);
    expect(hosts[0]?.plan.gpuModel).toBe("NVIDIA L4");
    expect(cloud).toMatchObject({ launchReason: "there are no machines", image: { id: "ami-785db401" } });
    expect(cloud.mark).toMatchObject({
      stack,
      owner: "ada",
      runId: expect.stringMatching(new RegExp(`^${stack}-[0-9a-f]{12}$`)),
    });
    expect(cloud.mark.expiresAt!.getTime() - cloud.mark.createdAt.getTime()).toBe(4 * 3600 * 1000);
    expect(cloud.rootVolumeGiB % 10).toBe(0);
    expect(cloud.key.publicKey).toMatch(/^ssh-ed25519 \S+$/);
    const changing = /^(Create|Run|Import|Delete|Terminate|Modify)/;
    expect((await aws.calls()).slice(before).filter(({ action }) => changing.test(action))).toEqual([]);
  });

  it("finds its machines by their tags, and keeps run, expiry, key and mark of the launch", async () => {
    const first = await prepare();
    await launch(first);
    const second = await prepare();
    expect(second.cloud.launchReason).toBeUndefined();
    for (const part of ["mark", "launch", "key", "image", "rootVolumeGiB", "zones", "rungs"] as const) {
      expect(second.cloud[part], part).toEqual(first.cloud[part]);
    }
  });

  it("leaves a machine alone when the ladder grows, and wants another when it is on no rung any more", async () => {
    const first = await prepare();
    await launch(first);
    const grown = await prepare({ instanceTypes: ["g6.12xlarge", "g5.12xlarge"] });
    expect(grown.cloud).toMatchObject({ launch: first.cloud.launch });
    expect(grown.cloud.launchReason).toBeUndefined();
    const moved = await prepare({ instanceTypes: ["g5.12xlarge"] });
    expect(moved.cloud.launchReason).toBe("there is no machine");
    expect(moved.cloud.launch).not.toBe(first.cloud.launch);
    // The same run, which ends when it was to end, whatever machines it is on; one without an end is another.
    expect(moved.cloud.mark).toEqual(first.cloud.mark);
    expect((await prepare({ instanceTypes: ["g5.12xlarge"] }, { ttl: undefined })).cloud.mark).not.toHaveProperty(
      "expiresAt",
    );
    // The old one lives until the new one is proven; a run in between finds the new one.
    await launch(moved);
    const again = await prepare({ instanceTypes: ["g5.12xlarge"] });
    expect(again.cloud).toMatchObject({ launch: moved.cloud.launch });
    expect(again.cloud.launchReason).toBeUndefined();
  });

  it("wants other machines when they are made of something else", async () => {
    const first = await prepare();
    await launch(first);
    for (const change of [{ ami: IMAGE }, { rootVolumeGiB: 500 }, { publicAddress: true, efa: true }]) {
      const { cloud } = await prepare(change);
      expect(cloud.launchReason, JSON.stringify(change)).toBe("there is no machine");
      expect(cloud.launch).not.toBe(first.cloud.launch);
    }
    expect((await prepare({ waitForCapacity: "1h" }, { maxPricePerHourUsd: 90 })).cloud.launch).toBe(
      first.cloud.launch,
    );
  });

  it("says how many are there, and which is stopped", async () => {
    const [id = ""] = await launch(await prepare());
    expect((await prepare({ machines: 3 })).cloud.launchReason).toBe("there are 1 of 3 machines");
    await withAws(aws, ({ ec2 }) => ec2.send(new StopInstancesCommand({ InstanceIds: [id] })));
    expect((await prepare()).cloud.launchReason).toMatch(new RegExp(`^${id} is stopp`));
  });

  it("refuses an environment of the same name that is somebody else's", async () => {
    await launch(await prepare());
    await expect(prepare({ owner: "bob" })).rejects.toThrow(
      /ec2\.owner: an environment of this name has machines in this account already, of ada \(i-.*set `ec2\.owner` to ada/,
    );
  });

  it("asks the cloud nothing when the price or the model makes every choice impossible", async () => {
    const before = (await aws.calls()).length;
    await expect(prepare({}, { maxPricePerHourUsd: 1 })).rejects.toThrow(
      /^The plan does not fit:\n {2}- maxPricePerHourUsd/,
    );
    expect(await aws.calls()).toHaveLength(before);
  });

  it("gives up when a machine ends before it can be reached", async () => {
    const { cloud } = await prepare();
    const machine = {
      name: "ec2-1",
      instanceId: "i-0123456789abcdef0",
      instanceType: "g6.12xlarge",
      zone: "us-east-1a",
      market: "spot",
      privateAddress: "127.0.0.1",
    } as const;
    const env = { ...aws.env, TANDEM_HOME: home };
    const observing = withAws({ ...aws, env }, () => cloud.observe([machine], () => undefined));
    await expect(observing).rejects.toThrow("ec2-1 (i-0123456789abcdef0) ended before it could be reached");
  });
});
