import { DescribeInstanceAttributeCommand, EC2Client } from "@aws-sdk/client-ec2";
import { execFileSync, spawn } from "node:child_process";
import { rmSync } from "node:fs";
import * as path from "node:path";
import { withClients } from "../../bootstrap/cloud/clients";
import { findThings } from "../../bootstrap/cloud/inventory";
import type { CloudThing } from "../../bootstrap/cloud/kinds";
import { reap } from "../../bootstrap/cloud/reap";
import type { Aws } from "../fixtures/aws/aws";

const REGION = "us-east-1";
const TTL_SECONDS = 600;
/** A whole life makes fewer calls than this; a run that is not killed must leave nothing either. */
const MOST_CALLS = 42;
const AT_ONCE = 4;
/** Access key id of the sweeper, by which its calls are known. */
export const REAPER = "reaper";

/** One run that was killed, and what it left. */
export interface KilledRun {
  readonly seed: number;
  /** Part of its life that it was in. */
  readonly part: string;
  /** Action of the API that it was killed at; "none" for a run that was not. */
  readonly action: string;
  /** Whether the action was done, and only the answer lost. */
  readonly wasDone: boolean;
  readonly before: { readonly instances: number; readonly others: number };
  readonly afterTimer: { readonly instances: number; readonly others: number };
  readonly afterReap: number;
  /** Of a run that was not killed. */
  readonly exitStatus: number | null;
}

/** A random number from 0 to 1 for a seed: mulberry32, by Tommy Ettinger, public domain. */
function random(seed: number): number {
  let t = (seed + 0x6d2b79f5) | 0;
  t = Math.imul(t ^ (t >>> 15), t | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}

/**
 * Lets runs live, several at a time, and kills each with SIGKILL at a call of the API that its seed says; then lets the time pass:
 * the timers of machines end them, and the sweeper takes the rest.
 */
export async function killRuns(aws: Aws, seeds: readonly number[]): Promise<KilledRun[]> {
  const lived: Awaited<ReturnType<typeof liveAndDie>>[] = [];
  const program = bundledLife();
  await aws.clock(0);
  try {
    for (let start = 0; start < seeds.length; start += AT_ONCE) {
      const batch = seeds.slice(start, start + AT_ONCE);
      // Spread over the whole life, at random within each part, so that no part is left out by chance.
      const moment = (index: number, seed: number) => (start + index + random(seed)) / seeds.length;
      const runs = batch.map((seed, index) => liveAndDie(aws, seed, moment(index, seed), program));
      lived.push(...(await Promise.all(runs)));
    }
  } finally {
    rmSync(program);
  }
  const kills = await aws.kills();
  const before = await Promise.all(lived.map(({ stack }) => countOf(stack)));
  await aws.clock(TTL_SECONDS * 2 + 600);
  await ringTimers(aws);
  const afterTimer = await Promise.all(lived.map(({ stack }) => countOf(stack)));
  const own = process.env["AWS_ACCESS_KEY_ID"];
  process.env["AWS_ACCESS_KEY_ID"] = REAPER;
  await reap({ regions: [REGION], onLine: () => undefined, timeoutSeconds: 60, pauseSeconds: 0.1 });
  process.env["AWS_ACCESS_KEY_ID"] = own;
  const afterReap = await Promise.all(lived.map(({ stack }) => thingsOf(stack)));
  return lived.map((run, index) => ({
    ...run,
    action: kills.get(run.stack) ?? "none",
    before: before[index] ?? { instances: -1, others: -1 },
    afterTimer: afterTimer[index] ?? { instances: -1, others: -1 },
    afterReap: afterReap[index]?.length ?? -1,
  }));
}

/** The life in one file, which starts in a third of the time. It must lie in the package, where its parts look for their files. */
function bundledLife(): string {
  const root = path.resolve(__dirname, "../..");
  const program = path.join(root, ".cache", `life-in-cloud-${process.pid}.js`);
  const source = path.join(__dirname, "fixtures/life-in-cloud.ts");
  const argv = [source, "--bundle", "--platform=node", "--log-level=error", `--outfile=${program}`];
  execFileSync(path.join(root, "node_modules/.bin/esbuild"), argv, { stdio: "pipe" });
  return program;
}

/** @returns what the run said before it died, and of what it died */
async function liveAndDie(aws: Aws, seed: number, moment: number, program: string) {
  const stack = `killed-${seed}`;
  const skip = Math.floor(moment * MOST_CALLS);
  const wasDone = random(seed + 0.5 * 2 ** 31) < 0.5;
  const child = spawn(process.execPath, [program, stack, String(TTL_SECONDS)], {
    env: { ...process.env, ...aws.env, AWS_ACCESS_KEY_ID: stack },
    stdio: ["pipe", "pipe", "inherit"],
  });
  await aws.addFault({ action: "*", key: stack, skip, times: 1, kill: child.pid ?? 0, ...(wasDone && { cut: true }) });
  let said = "";
  child.stdout.on("data", (data: Buffer) => (said += data.toString()));
  child.stdin.on("error", () => undefined).write("go\n");
  const timer = setTimeout(() => child.kill("SIGKILL"), 120_000);
  const exitStatus = await new Promise<number | null>((resolve) => child.once("close", resolve));
  clearTimeout(timer);
  return { seed, stack, wasDone, exitStatus, part: said.trim().split("\n").at(-1) || "start" };
}

function thingsOf(stack: string): Promise<CloudThing[]> {
  return withClients(REGION, (clients) => findThings(clients, stack));
}

async function countOf(stack: string): Promise<{ instances: number; others: number }> {
  const things = await thingsOf(stack);
  const instances = things.filter(({ type, state }) => type === "instance" && state === "running").length;
  return { instances, others: things.filter(({ type }) => type !== "instance").length };
}

/**
 * What the timers of the machines do when their time is over; that the timer itself works is proven on real machines, in
 * test/hosts. A machine whose user data arms none lives on.
 */
async function ringTimers(aws: Aws): Promise<void> {
  const ec2 = new EC2Client({ region: REGION });
  const things = await withClients(REGION, (clients) => findThings(clients));
  for (const { id, type, state } of things) {
    if (type !== "instance" || state !== "running") continue;
    const asked = await ec2.send(new DescribeInstanceAttributeCommand({ InstanceId: id, Attribute: "userData" }));
    const text = Buffer.from(asked.UserData?.Value ?? "", "base64").toString();
    const ends = Number(/^echo (\d+) >"\$folder\/expires"$/m.exec(text)?.[1]);
    if (ends > 0 && text.includes("tandem-expiry.timer")) await aws.shutDown(id);
  }
  ec2.destroy();
  // A machine shuts down for a moment.
  await new Promise((resolve) => setTimeout(resolve, 1000));
}

/** The table of docs/leaks.md: a row for each point at which runs were killed. */
export function leakTable(runs: readonly KilledRun[]): string {
  const points = new Map<string, KilledRun[]>();
  for (const run of runs) {
    const moment =
      run.action === "none" ? "not killed" : `${run.part}: ${run.action}, ${run.wasDone ? "after" : "before"}`;
    points.set(moment, [...(points.get(moment) ?? []), run]);
  }
  const most = (list: readonly number[]) => Math.max(...list);
  const rows = [...points]
    .toSorted(([one], [other]) => one.localeCompare(other))
    .map(([point, of]) => {
      const before = `${most(of.map((run) => run.before.instances))} + ${most(of.map((run) => run.before.others))}`;
      const timer = `${most(of.map((run) => run.afterTimer.instances))} + ${most(of.map((run) => run.afterTimer.others))}`;
      return `| ${point} | ${of.length} | ${before} | ${timer} | ${most(of.map(({ afterReap }) => afterReap))} |`;
    });
  const head = "| killed at | runs | left: machines + other things | after the timer | after `tandem reap` |";
  return [head, "|---|---|---|---|---|", ...rows].join("\n");
}
