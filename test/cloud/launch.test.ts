import { TerminateInstancesCommand } from "@aws-sdk/client-ec2";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { endMachines } from "../../bootstrap/cloud/launch-end";
import { launchMachines, type LaunchOptions } from "../../bootstrap/cloud/launch";
import type { LaunchRequest, LaunchResult } from "../../bootstrap/cloud/launch-request";
import { findMachines, livingMachines } from "../../bootstrap/cloud/machines";
import { startAws, type Aws } from "../fixtures/aws/aws";
import { runInstanceAs } from "./stack-in-cloud";
import { launchRequest, strangersMachine, withAws } from "./workbench";

let aws: Aws;
beforeAll(async () => {
  aws = await startAws();
  await aws.settings({ terminationSeconds: 0.2 });
});
beforeEach(async () => {
  await aws.faults([]);
  await aws.noCapacity([]);
});
afterAll(() => aws.close());

const LADDER = [
  { instanceType: "g6.12xlarge", zone: "us-east-1a", market: "spot" },
  { instanceType: "g6.12xlarge", zone: "us-east-1b", market: "spot" },
  { instanceType: "g5.12xlarge", zone: "us-east-1b", market: "on-demand" },
] as const;

interface Launched {
  readonly lines: string[];
  readonly result?: LaunchResult;
  readonly error?: Error;
}

async function launch(request: LaunchRequest, options: Partial<LaunchOptions> = {}): Promise<Launched> {
  const lines: string[] = [];
  try {
    const result = await withAws(aws, (clients) =>
      launchMachines(clients, request, { onProgress: (line) => lines.push(line), firstPauseSeconds: 0.05, ...options }),
    );
    return { lines, result };
  } catch (error) {
    return { lines, error: error as Error };
  }
}
const requestOf = (more: Partial<LaunchRequest> = {}) => withAws(aws, ({ ec2 }) => launchRequest(ec2, more));
const living = (stack: string) => withAws(aws, (clients) => livingMachines(clients, stack));
const fleetCalls = async () => (await aws.calls()).filter(({ action }) => action === "CreateFleet").length;

describe("launching machines", () => {
  it("takes the first choice that has capacity, with one request for each market, and says what the others lacked", async () => {
    await aws.noCapacity([{ market: "spot" }]);
    const before = await fleetCalls();
    const { result, lines } = await launch(await requestOf({ rungs: LADDER }));
    expect(result?.machines).toEqual([
      expect.objectContaining({ name: "ec2-1", instanceType: "g5.12xlarge", zone: "us-east-1b", market: "on-demand" }),
    ]);
    expect(result?.machines[0]?.publicAddress).toMatch(/^\d+\./);
    expect(lines).toContain("g6.12xlarge in us-east-1a, spot: capacity (InsufficientInstanceCapacity)");
    expect(await fleetCalls()).toBe(before + 2);
  });

  it("marks machine, volume, interface and fleet in the call that creates them, and names the machine", async () => {
    const request = await requestOf();
    const { result } = await launch(request);
    const [machine] = await living(request.stack);
    expect(machine?.tags).toMatchObject({
      ...request.tags,
      "tandem:launch": request.launch,
      "tandem:machine": "ec2-1",
    });
    expect(result?.machines[0]?.fleetId).toMatch(/^fleet-/);
  });

  it("fails with a table of all choices when there is no capacity at all, and leaves nothing", async () => {
    await aws.noCapacity([{}]);
    const request = await requestOf({ rungs: LADDER });
    const { error } = await launch(request);
    expect(error?.message).toContain("no machine could be had: 3 choices, one try");
    expect(error?.message).toMatch(/g5\.12xlarge in us-east-1b, on-demand +capacity +InsufficientInstanceCapacity: /);
    expect(error?.message).toContain("fix (capacity): add types, zones or the other market");
    expect(await living(request.stack)).toEqual([]);
  });

  it("tries again while there is time, and shows each try", async () => {
    await aws.noCapacity([{}]);
    const request = await requestOf({ waitSeconds: 20 });
    const tries: string[] = [];
    const onProgress = (line: string) => {
      if (!line.startsWith("no capacity in try")) return;
      tries.push(line);
      void aws.noCapacity([]);
    };
    const { result } = await launch(request, { firstPauseSeconds: 0.2, onProgress });
    expect(result?.machines).toHaveLength(1);
    expect(tries[0]).toMatch(/^no capacity in try 1: the next is at \d\d:\d\d:\d\d UTC, the last before /);
  });

  it("does not wait for what no waiting cures", async () => {
    await aws.noCapacity([{ code: "VcpuLimitExceeded", message: "You have requested more vCPU capacity" }]);
    const startedAt = Date.now();
    const { error } = await launch(await requestOf({ waitSeconds: 60 }));
    expect(error?.message).toMatch(/ quota +VcpuLimitExceeded: /);
    expect(Date.now() - startedAt).toBeLessThan(10_000);
  });

  it.each([
    ["Unsupported", "Your requested instance type is not supported in your requested Availability Zone", "not offered"],
    ["UnauthorizedOperation", "You are not authorized", "credentials"],
    ["SpotMaxPriceTooLow", "Your Spot request price is lower than the minimum", "price"],
    ["InsufficientFreeAddressesInSubnet", "There are not enough free addresses in subnet", "subnet"],
    ["InvalidAMIID.NotFound", "The image id does not exist", "image"],
  ])("sorts %s by what can be done about it", async (code, message, kind) => {
    await aws.noCapacity([{ code, message }]);
    const { error } = await launch(await requestOf());
    expect(error?.message).toContain(`fix (${kind}): `);
  });

  it("gets through throttling, and makes one machine although an answer was lost", async () => {
    await aws.faults([
      { action: "CreateFleet", code: "RequestLimitExceeded", status: "503 Service Unavailable", times: 2 },
      { action: "CreateFleet", cut: true, times: 1 },
    ]);
    const request = await requestOf();
    const { result } = await launch(request);
    expect(result?.machines).toHaveLength(1);
    expect(await living(request.stack)).toHaveLength(1);
  });

  it("takes what a killed run launched, and never a machine of another launch or of somebody else", async () => {
    const request = await requestOf({ machines: 2 });
    const first = await launch({ ...request, machines: 1 });
    await withAws(aws, ({ ec2 }) => strangersMachine(ec2, "g6.12xlarge"));
    const { result, lines } = await launch(request);
    const id = first.result?.machines[0]?.instanceId ?? "";
    expect(lines[0]).toBe(`there already: ${id}`);
    expect(result?.machines.map(({ name }) => name)).toEqual(["ec2-1", "ec2-2"]);
    expect(result?.machines[0]?.instanceId).toBe(id);
    expect(await living(request.stack)).toHaveLength(2);
    const other = await launch({ ...request, launch: "another", machines: 1 });
    expect(other.result?.machines[0]?.instanceId).not.toBe(id);
  });

  it("takes no machine that only bears the tags, or comes from another template", async () => {
    const request = await requestOf();
    const tags = { ...request.tags, "tandem:launch": request.launch };
    const forged = await withAws(aws, ({ ec2 }) => runInstanceAs(ec2, tags));
    const stranger = await withAws(aws, ({ ec2 }) => launchRequest(ec2, { stack: `${request.stack}-other` }));
    const LaunchTemplate = { LaunchTemplateId: stranger.launchTemplate.id };
    const fromOther = await withAws(aws, ({ ec2 }) => runInstanceAs(ec2, tags, { LaunchTemplate }));
    const { result } = await launch(request);
    expect([forged, fromOther]).not.toContain(result?.machines[0]?.instanceId);
  });

  it("fills the place of a machine that is gone, and leaves the others their names", async () => {
    const request = await requestOf({ machines: 2 });
    const first = (await launch(request)).result!;
    const [gone, stays] = first.machines;
    await withAws(aws, ({ ec2 }) => ec2.send(new TerminateInstancesCommand({ InstanceIds: [gone?.instanceId ?? ""] })));
    const second = (await launch(request, { previous: first })).result!;
    expect(second.machines[1]).toEqual(stays);
    expect(second.machines[0]?.name).toBe("ec2-1");
    expect(second.machines[0]?.instanceId).not.toBe(gone?.instanceId);
  });

  it("ends what it launched when it can't go on", async () => {
    const request = await requestOf({ machines: 2 });
    await aws.faults([{ action: "DescribeInstances", skip: 1, times: 1, code: "UnauthorizedOperation" }]);
    const { error, lines } = await launch(request);
    expect(error?.name).toBe("UnauthorizedOperation");
    expect(lines.at(-1)).toBe("the machines are gone");
    expect(await living(request.stack)).toEqual([]);
  });

  it("ends machines and waits until they are gone, also when somebody ended them before", async () => {
    const request = await requestOf();
    const { result } = await launch(request);
    const [machine] = result?.machines ?? [];
    const ending = {
      instanceIds: [machine?.instanceId ?? ""],
      fleetIds: [machine?.fleetId ?? ""],
      onProgress: () => undefined,
    };
    await withAws(aws, (clients) => endMachines(clients, ending));
    const filters = [{ Name: "instance-id", Values: [machine?.instanceId ?? ""] }];
    expect((await withAws(aws, (clients) => findMachines(clients, filters))).map(({ state }) => state)).toEqual([
      "terminated",
    ]);
    await withAws(aws, (clients) => endMachines(clients, { ...ending, instanceIds: ["i-0123456789abcdef0"] }));
  });
});
