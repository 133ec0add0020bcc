import {
  CreateTagsCommand,
  DeleteTagsCommand,
  DescribeTagsCommand,
  EC2Client,
  TerminateInstancesCommand,
} from "@aws-sdk/client-ec2";
import { DeleteParameterCommand, PutParameterCommand, SSMClient } from "@aws-sdk/client-ssm";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { withClients } from "../../bootstrap/cloud/clients";
import { extendTags } from "../../bootstrap/cloud/extend";
import { findThings } from "../../bootstrap/cloud/inventory";
import { reap, type ReapResult } from "../../bootstrap/cloud/reap";
import { findSurvivors, proveGone, sweepCloud } from "../../bootstrap/cloud/survivors";
import { runTags, tagList } from "../../plan/run-tags";
import { type Aws, startAws } from "../fixtures/aws/aws";
import { makeSmallStack, makeStack, markOf, runInstanceAs } from "./stack-in-cloud";

const REGION = "us-east-1";
const HOUR = 3600;
const QUICK = { timeoutSeconds: 50, pauseSeconds: 0.1 };

let aws: Aws;
let ec2: EC2Client;
let number = 0;
/** A stack of its own for each test. */
let stack: string;

beforeAll(async () => {
  aws = await startAws();
  Object.assign(process.env, aws.env);
  ec2 = new EC2Client({});
});
beforeEach(async () => {
  await aws.faults([]);
  await aws.clock(0);
  stack = `stack-${++number}`;
});
afterAll(async () => {
  ec2.destroy();
  await aws.close();
});

async function reapNow(more: object = {}): Promise<ReapResult & { lines: string[] }> {
  const lines: string[] = [];
  const result = await reap({ regions: [REGION], onLine: (line) => lines.push(line), ...QUICK, ...more });
  return { ...result, lines };
}

/** Whose `markOf` makes all stacks here. */
const own = (name: string) => ({ name, owner: "ada@laptop" });

async function idsOf(wanted: string): Promise<string[]> {
  return (await findSurvivors([REGION], wanted)).map(({ id }) => id).toSorted();
}

describe("reap", () => {
  it("deletes all of an expired run in an order that works, with a line for each thing, and nothing else", async () => {
    const made = await makeStack(ec2, runTags(markOf(stack)));
    const others = await makeStack(ec2, {
      owner: "someone else",
      "tandem:run-id": "not-ours",
      "tandem:stack": "theirs",
    });
    const endless = await makeSmallStack(ec2, runTags({ ...markOf(`${stack}-endless`), expiresAt: undefined }));
    expect(await idsOf(stack)).toHaveLength(made.size + 2); // The instance brings a volume and an interface.

    await aws.clock(2 * HOUR);
    const { removed, left, lines, live } = await reapNow();
    expect(left).toEqual([]);
    expect(removed.map(({ id }) => id)).toEqual(expect.arrayContaining([...made.values()]));
    expect(lines).toHaveLength(removed.length);
    expect(lines).toContainEqual(
      `instance ${made.get("instance") ?? ""} in us-east-1 (running): deleted, run ${stack}-run of ada@laptop is over since 58 min`,
    );
    expect(await idsOf(stack)).toEqual([]);
    expect(live).toBe(endless.size + 2);
    expect(await idsOf(`${stack}-endless`)).toHaveLength(endless.size + 2);
    expect(await theirs()).toEqual(expect.arrayContaining([...others.values()].toSorted()));
    await sweepCloud([REGION], own(`${stack}-endless`), QUICK);
  });

  it("leaves a live run, and one that is over for less than it was told", async () => {
    await makeSmallStack(ec2, runTags(markOf(stack)));
    expect(await reapNow()).toMatchObject({ removed: [], left: [] });
    await aws.clock(2 * HOUR);
    expect(await reapNow({ olderThanSeconds: 2 * HOUR })).toMatchObject({ removed: [], left: [] });
    expect((await reapNow({ olderThanSeconds: 60 })).removed).not.toEqual([]);
    expect(await idsOf(stack)).toEqual([]);
  });

  it("only tells with --dry-run", async () => {
    const made = await makeSmallStack(ec2, runTags(markOf(stack)));
    await aws.clock(2 * HOUR);
    const before = (await aws.calls()).length;
    const { left, lines } = await reapNow({ dryRun: true });
    expect(left).toHaveLength(made.size + 2);
    expect(lines.every((line) => line.includes("would be deleted"))).toBe(true);
    const actions = (await aws.calls()).slice(before).map(({ action }) => action);
    expect(actions.filter((action) => !/^(Describe|GetResources)/.test(action))).toEqual([]);
    await reapNow();
  });

  it("leaves alone what says it is ours but not until when, and says that a person has to look", async () => {
    const made = await makeSmallStack(ec2, runTags(markOf(stack)));
    const id = made.get("volume") ?? "";
    await ec2.send(new DeleteTagsCommand({ Resources: [id], Tags: [{ Key: "tandem:created-at" }] }));
    await aws.clock(2 * HOUR);
    const { unclear, lines } = await reapNow();
    expect(unclear.map((thing) => thing.id)).toEqual([id]);
    expect(lines).toContainEqual(`volume ${id} in us-east-1: left alone, no tag tandem:created-at`);
    expect(await idsOf(stack)).toEqual([id]);
    await sweepCloud([REGION], own(stack), QUICK);
  });

  it("ends a run whose client's clock was a day ahead when its length has passed since the launch", async () => {
    const day = 86_400_000;
    const createdAt = new Date(Date.now() + day);
    await makeSmallStack(
      ec2,
      runTags(markOf(stack, { createdAt, expiresAt: new Date(createdAt.getTime() + HOUR * 1000) })),
    );
    expect((await reapNow()).removed).toEqual([]);
    await aws.clock(HOUR + 300);
    expect((await reapNow()).left).toEqual([]);
    expect(await idsOf(stack)).toEqual([]);
  });

  it("does not end a living run by the launch time of a machine that only says that it is of that run", async () => {
    const mark = markOf(stack, {
      createdAt: new Date(Date.now() - 1_000),
      expiresAt: new Date(Date.now() + 3_600_000),
    });
    await aws.clock(-2 * HOUR);
    const old = await makeSmallStack(ec2, runTags(markOf(`${stack}-old`, { expiresAt: undefined })));
    await aws.clock(0);
    await makeSmallStack(ec2, runTags(mark));
    const Tags = [{ Key: "tandem:run-id", Value: mark.runId }];
    await ec2.send(new CreateTagsCommand({ Resources: [old.get("instance") ?? ""], Tags }));
    expect((await reapNow()).removed).toEqual([]);
    await aws.clock(2 * HOUR);
    expect((await reapNow()).left).toEqual([]);
    expect(await idsOf(stack)).toEqual([]);
    expect(await idsOf(`${stack}-old`)).toContain(old.get("instance"));
    await aws.clock(0);
    await sweepCloud([REGION], own(`${stack}-old`), QUICK);
  });

  it("leaves alone a machine whose tags were copied, since EC2 does not say that a template made it", async () => {
    const copy = await runInstanceAs(ec2, runTags(markOf(stack)));
    await aws.clock(2 * HOUR);
    const { unclear, lines } = await reapNow();
    expect(unclear.map(({ type }) => type).toSorted()).toEqual(["instance", "network-interface", "volume"]);
    expect(lines).toContainEqual(
      `instance ${copy} in us-east-1 (running): left alone, Tandem did not launch it, so its tags were copied`,
    );
    await sweepCloud([REGION], own(stack), QUICK);
    await expect(proveGone([REGION], own(stack), QUICK)).rejects.toThrow(/left alone, [\s\S]*copied\n {2}fix: remove/);
    expect(await idsOf(stack)).toContain(copy);
    await ec2.send(new TerminateInstancesCommand({ InstanceIds: [copy] }));
  });

  it("may run twice at once: what one deletes is gone for the other, and both end well", async () => {
    await makeSmallStack(ec2, runTags(markOf(stack)));
    await aws.clock(2 * HOUR);
    const [one, other] = await Promise.all([reapNow(), reapNow()]);
    expect([...one.left, ...other.left]).toEqual([]);
    expect(await idsOf(stack)).toEqual([]);
  });

  it("goes on through throttling, server errors and lost answers, and names what it could not delete", async () => {
    const made = await makeSmallStack(ec2, runTags(markOf(stack)));
    await aws.clock(2 * HOUR);
    const volume = made.get("volume") ?? "";
    await aws.faults([
      { action: "DescribeTags", code: "RequestLimitExceeded", times: 2 },
      { action: "TerminateInstances", status: "500 Internal Server Error", code: "InternalError", times: 1 },
      { action: "DeleteSubnet", cut: true, times: 1 },
      { action: "DeleteVolume", match: { VolumeId: volume }, code: "UnauthorizedOperation" },
    ]);
    const { left, lines } = await reapNow();
    expect(left.map(({ id }) => id)).toEqual([volume]);
    expect(lines.find((line) => line.includes(volume))).toMatch(
      /NOT deleted, UnauthorizedOperation.* — fix: aws ec2 delete-volume --volume-id vol-\w+ --region us-east-1$/,
    );
    await aws.faults([]);
    expect((await reapNow()).left).toEqual([]);
  });

  it("says which region could not be asked, and does the others", async () => {
    await makeSmallStack(ec2, runTags(markOf(stack)));
    await aws.clock(2 * HOUR);
    await aws.faults([{ action: "*", region: "eu-west-1", code: "UnauthorizedOperation" }]);
    const { unasked, left } = await reapNow({ regions: ["eu-west-1", REGION] });
    expect(unasked).toEqual([{ region: "eu-west-1", reason: expect.stringContaining("injected") as unknown }]);
    expect(left).toEqual([]);
    expect(await idsOf(stack)).toEqual([]);
  });
});

describe("after destroy", () => {
  it("a survivor is an error that names it and the command that removes it", async () => {
    const made = await makeSmallStack(ec2, runTags(markOf(stack)));
    const error: unknown = await proveGone([REGION], own(stack), QUICK).catch((reason: unknown) => reason);
    expect(String(error)).toContain(`${made.size + 2} things survive of the stack ${stack}:`);
    expect(String(error)).toContain(
      `instance ${made.get("instance") ?? ""} in us-east-1 (running) — fix: aws ec2 terminate-instances --instance-ids ${made.get("instance") ?? ""} --region us-east-1`,
    );
    const removals = await sweepCloud([REGION], own(stack), QUICK);
    expect(removals.filter(({ outcome }) => outcome === "left")).toEqual([]);
    await proveGone([REGION], own(stack), QUICK);
  });

  it("touches nothing that another owner has under the same name, and says whose it is", async () => {
    const theirs = await makeSmallStack(ec2, runTags(markOf(stack, { owner: "bob@desk" })));
    const mine = await makeSmallStack(ec2, runTags(markOf(stack)));
    await sweepCloud([REGION], own(stack), QUICK);
    const error: unknown = await proveGone([REGION], own(stack), QUICK).catch((reason: unknown) => reason);
    expect(String(error)).toContain(
      `instance ${theirs.get("instance") ?? ""} in us-east-1 (running): it belongs to bob@desk, not to ada@laptop`,
    );
    expect(String(error)).toContain("fix: if that is you as well, set `ec2.owner` to bob@desk");
    const left = await idsOf(stack);
    expect(left).toEqual(expect.arrayContaining([...theirs.values()]));
    expect(left).not.toContain(mine.get("instance"));
    await expect(extendTags(REGION, own(stack), HOUR)).rejects.toThrow(
      /belongs to bob@desk — fix: .*`ec2.owner` to bob/,
    );
    await sweepCloud([REGION], { name: stack, owner: "bob@desk" }, QUICK);
    await proveGone([REGION], own(stack), QUICK);
  });

  it("a survivor of another service is found too", async () => {
    const ssm = new SSMClient({});
    const Tags = tagList(runTags(markOf(stack)));
    await ssm.send(new PutParameterCommand({ Name: `/${stack}`, Value: "x", Type: "String", Tags }));
    await expect(proveGone([REGION], own(stack), QUICK)).rejects.toThrow(
      /one thing survives.*\n {2}ssm:parameter arn:aws:ssm/,
    );
    await ssm.send(new DeleteParameterCommand({ Name: `/${stack}` }));
    ssm.destroy();
  });

  it("nobody can say that nothing is left while the API is down", async () => {
    await aws.faults([{ action: "*", down: true }]);
    await expect(proveGone([REGION], own(stack), QUICK)).rejects.toThrow(
      /nobody knows whether something of the stack .* the cloud could not be asked.*fix: run it again/,
    );
  });
});

describe("extend", () => {
  it("moves the end of everything, by tags alone, and never brings it nearer", async () => {
    await makeSmallStack(ec2, runTags(markOf(stack)));
    const before = (await aws.calls()).length;
    const extension = await extendTags(REGION, own(stack), 3 * HOUR);
    const changes = (await aws.calls()).slice(before).filter(({ action }) => !/^(Describe|GetResources)/.test(action));
    expect(changes.map(({ action }) => action)).toEqual(["CreateTags"]);
    const ends = await withClients(REGION, (clients) => findThings(clients, stack));
    expect(new Set(ends.map(({ tags }) => tags["tandem:expires-at"]))).toEqual(
      new Set([extension?.expiresAt.toISOString().replace(".000", "")]),
    );
    await aws.clock(2 * HOUR);
    expect((await reapNow()).removed).toEqual([]);
    expect((await extendTags(REGION, own(stack), 60))?.expiresAt).toEqual(extension?.expiresAt);
    await aws.clock(4 * HOUR);
    await expect(extendTags(REGION, own(stack), HOUR)).rejects.toThrow(/is over since .*: it can't be extended/);
    expect((await reapNow()).left).toEqual([]);
    expect(await extendTags(REGION, own(stack), HOUR)).toBeUndefined();
  });
});

/** Ids of what does not say that it is ours. */
async function theirs(): Promise<string[]> {
  const { Tags = [] } = await ec2.send(new DescribeTagsCommand({ Filters: [{ Name: "key", Values: ["owner"] }] }));
  return Tags.map(({ ResourceId }) => ResourceId ?? "").toSorted();
}
