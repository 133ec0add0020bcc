import { setTimeout as sleep } from "node:timers/promises";
import { findInstanceType, instanceFacts } from "../../plan/ec2-catalogue";
import { ec2Of, type Ec2Settings, type Rung } from "../../plan/ec2-ladder";
import { planEc2, priceOf, type Ec2Plan } from "../../plan/ec2-plan";
import { ProblemsError } from "../../plan/problem";
import type { RunMark } from "../../plan/run-tags";
import type { Settings } from "../../plan/settings";
import { findShape, requireWeights } from "../runner/model";
import { plannedHost } from "../runner/observe";
import { prepareTargets, type Prepared, type PreparedHost, type PrepareOptions } from "../runner/prepare";
import { waitForHost } from "../runner/ssh";
import { findImage, type MachineImage } from "./ami";
import { withClients, type Clients } from "./clients";
import { watchCloudClock } from "./cloud-clock";
import { digestOf, machineNames, type LaunchedMachine } from "./launch-request";
import { instanceIsGone } from "./machine-gone";
import { livingMachines, MACHINE_TAGS, type Machine } from "./machines";
import { readingProblems, readSubnets, readZones, type Subnet } from "./network-reads";
import { ownerOf } from "./ownership";
import { preflight, readAccount } from "./preflight";
import { freshMark, goingOn, refuseOthers } from "./run-mark";
import { findSshKey, type SshKey } from "./ssh-key";
import { machineTarget, plannedTarget, type WayIn } from "./targets";

/** What is known of the cloud before the first resource. */
export interface CloudPrepared {
  readonly mark: RunMark;
  /** Marks the machines of this launch: another one means other machines. */
  readonly launch: string;
  /** Why machines have to be launched; absent when all are there. */
  readonly launchReason?: string;
  readonly rungs: readonly Rung[];
  readonly image: MachineImage;
  readonly rootVolumeGiB: number;
  readonly zones: readonly string[];
  /** The user's subnets; absent where the stack makes its own. */
  readonly subnets?: readonly Subnet[];
  readonly key: SshKey;
  /** Waits for launched machines and plans on what they are; answers at once for those that were looked at already. */
  readonly observe: (
    machines: readonly LaunchedMachine[],
    say: (line: string) => void,
  ) => Promise<readonly PreparedHost[]>;
}

/** From the start of a machine to its SSH server; the largest check their memory for minutes. */
const SSH_SECONDS = 900;
/** How often EC2 is asked meanwhile whether there still is a machine to wait for. */
const GONE_SECONDS = 5;
/** Room on the disk beyond the image and what the plan puts there: logs, checkpoints, adapters. */
const WORK_GIB = 20;
const VOLUME_STEP_GIB = 10;

/**
 * Plans for machines that there are not yet, by the catalogue, and asks the cloud what stands in the way and what is there
 * already; machines that live are asked what they are. Changes nothing in the cloud.
 * @throws ProblemsError with everything that is in the way
 */
export async function prepareEc2(settings: Settings, stack: string, { onHosts }: PrepareOptions): Promise<Prepared> {
  const ec2 = ec2Of(settings);
  const planned = planEc2(settings, await findShape(settings));
  if (planned.ec2 === undefined) {
    const works = planned.alternatives.map(({ text }) => `\n  works: ${text}`);
    throw new ProblemsError(planned.problems, "The plan does not fit", works.join(""));
  }
  const key = findSshKey(stack, ec2.identityFile);
  const read = await withClients(ec2.region, (clients) =>
    readCloud(clients, { settings, stack, key, plan: planned.ec2 }),
  );
  const way = { ec2, identityFile: key.identityFile };
  const prepareMachines = (machines: readonly LaunchedMachine[]) => {
    const targets = machines.map((machine) => machineTarget(machine, way));
    return prepareTargets(targets, settings, stack, priceNow(settings, machines));
  };
  const there = read.launchReason === undefined ? read.machines : [];
  // A machine that still starts, or that nobody has seen yet, is waited for when it is needed.
  const known = there.length === 0 ? undefined : await prepareMachines(there).catch(unlessOnlySilent);
  if (known === undefined) await requireWeights(settings, plannedTarget("", way));
  const plan = {
    ...planned.ec2.plan,
    warnings: [...planned.ec2.plan.warnings, ...planned.ec2.dropped, ...read.dropped],
  };
  const facts = instanceFactsOf(planned.ec2.rungs);
  const hosts =
    known ??
    machineNames(ec2.machines).map((name) => ({ host: plannedHost(plannedTarget(name, way), stack, facts), plan }));
  return {
    settings,
    hosts,
    cloud: {
      ...read,
      rungs: planned.ec2.rungs,
      rootVolumeGiB: rootVolume(ec2, read.image, planned.ec2),
      key,
      observe: async (machines, say) => {
        const ids = (list: readonly LaunchedMachine[]) => list.map(({ instanceId }) => instanceId).join();
        if (known !== undefined && ids(machines) === ids(there)) return known;
        await Promise.all(machines.map((machine) => waitForMachine(machine, way, say)));
        const hosts = await prepareMachines(machines);
        onHosts?.(hosts);
        return hosts;
      },
    },
  };
}

/** Waits for a machine's SSH server, as long as EC2 has not ended the machine. */
async function waitForMachine(machine: LaunchedMachine, way: WayIn, say: (line: string) => void): Promise<void> {
  const target = machineTarget(machine, way);
  const over = new AbortController();
  const ended = async () => {
    for (;;) {
      await sleep(GONE_SECONDS * 1000, undefined, { signal: over.signal });
      if (!(await instanceIsGone({ id: machine.instanceId, region: way.ec2.region }).catch(() => false))) continue;
      const fix = "run it again: another one is launched";
      throw new Error(`${machine.name} (${machine.instanceId}) ended before it could be reached — fix: ${fix}`);
    }
  };
  try {
    await Promise.race([waitForHost(target, SSH_SECONDS, say, undefined, over.signal), ended()]);
  } finally {
    // What lost goes on no further: neither questions to the cloud nor logins to an address that may be another machine's by then.
    over.abort();
  }
}

/** Hosts that don't answer and were never seen leave the plan as it was made without them; anything else is the user's to know. */
function unlessOnlySilent(error: unknown): undefined {
  const isSilence = error instanceof ProblemsError && error.message.startsWith("Some hosts can't be asked");
  if (!isSilence) throw error;
}

interface Question {
  readonly settings: Settings;
  readonly stack: string;
  readonly key: SshKey;
  readonly plan: Ec2Plan;
}

interface CloudRead extends Pick<CloudPrepared, "mark" | "launch" | "launchReason" | "image" | "zones" | "subnets"> {
  /** Those that live, by name. */
  readonly machines: readonly LaunchedMachine[];
  readonly dropped: readonly string[];
}

async function readCloud(clients: Clients, { settings, stack, key, plan }: Question): Promise<CloudRead> {
  const ec2 = ec2Of(settings);
  const now = watchCloudClock(clients.ec2);
  try {
    await readAccount(clients);
    const living = await livingMachines(clients, stack);
    const fresh: RunMark = freshMark(stack, ownerOf(ec2), now(), plan.plan.cost.ttlSeconds);
    refuseOthers(living, fresh);
    const { launch, mine } = judgeMachines(living, plan.rungs, ec2, key);
    const launchReason = whyLaunch(mine, ec2.machines);
    const base = {
      mark: goingOn({ mine, living, fresh }),
      launch,
      launchReason,
      machines: mine.flatMap(({ name, ...rest }) => (name === undefined ? [] : [{ name, ...rest }])),
    };
    if (launchReason !== undefined) {
      const missing = Math.max(1, ec2.machines - mine.filter(isRunning).length);
      return { ...base, ...(await preflight(clients, { ...ec2, machines: missing }, plan.rungs)) };
    }
    const { imageId = "", rootDeviceName = "" } = mine[0] ?? {};
    const [zones, subnets, image] = await Promise.all([
      readZones(clients),
      ec2.subnetIds === undefined ? undefined : readSubnets(clients, ec2.subnetIds),
      // The machines go on without the image that they came from.
      findImage(clients, imageId).catch((): MachineImage => ({ id: imageId, rootDeviceName, rootVolumeGiB: 0 })),
    ]);
    return { ...base, zones, subnets, image, dropped: [] };
  } catch (error) {
    if (error instanceof ProblemsError) throw error;
    throw new ProblemsError(readingProblems(error, "ask what is there", clients.region));
  }
}

/**
 * Which machines are this stack's, made as the settings say. A ladder that was only added to leaves them alone; a machine that is on
 * no rung any more, or is made of something else, belongs to a launch of the past.
 */
function judgeMachines(living: readonly Machine[], rungs: readonly Rung[], ec2: Ec2Settings, key: SshKey) {
  const { ami, rootVolumeGiB, subnetIds, efa, placementGroup, publicAddress, instanceProfile, sshUser, region } = ec2;
  const make = digestOf(
    region,
    ami,
    rootVolumeGiB,
    subnetIds,
    efa,
    placementGroup,
    publicAddress,
    instanceProfile,
    sshUser,
    key.publicKey,
  );
  const mine = living.filter(
    (machine) =>
      machine.tags[MACHINE_TAGS.launch]?.startsWith(make) === true &&
      rungs.some(
        ({ instanceType, zone, market }) =>
          machine.instanceType === instanceType && machine.market === market && (zone ?? machine.zone) === machine.zone,
      ),
  );
  return { launch: mine[0]?.tags[MACHINE_TAGS.launch] ?? `${make}-${digestOf(rungs)}`, mine };
}

function isRunning({ state }: Machine): boolean {
  return state === "running" || state === "pending";
}

function whyLaunch(mine: readonly Machine[], wanted: number): string | undefined {
  const running = mine.filter(isRunning);
  const stopped = mine
    .filter((machine) => !running.includes(machine))
    .map(({ instanceId, state }) => `${instanceId} is ${state}`);
  if (stopped.length > 0) return stopped.join(", ");
  if (running.length === 0) return wanted === 1 ? "there is no machine" : "there are no machines";
  if (running.length !== wanted) return `there are ${running.length} of ${wanted} machines`;
  return running.every(({ name }) => name !== undefined) ? undefined : "a killed run left machines without names";
}

function rootVolume({ rootVolumeGiB }: Ec2Settings, image: MachineImage, { plans }: Ec2Plan): number {
  if (rootVolumeGiB !== "auto") return rootVolumeGiB;
  const needed = Math.max(...Object.values(plans).map(({ disk }) => disk.totalGiB));
  return Math.ceil((image.rootVolumeGiB + needed + WORK_GIB) / VOLUME_STEP_GIB) * VOLUME_STEP_GIB;
}

function instanceFactsOf(rungs: readonly Rung[]) {
  const type = findInstanceType(rungs[0]?.instanceType ?? "");
  if (type === undefined) throw new Error("a plan without a type of the catalogue");
  return instanceFacts(type);
}

/** Of all machines, by the type that each turned out to be. */
function priceNow(settings: Settings, machines: readonly LaunchedMachine[]): number {
  const { machines: wanted } = ec2Of(settings);
  const prices = machines.map(({ instanceType }) => {
    const type = findInstanceType(instanceType);
    return type === undefined ? 0 : priceOf(settings, type) / wanted;
  });
  return Math.round(prices.reduce((sum, price) => sum + price, 0) * 1000) / 1000;
}
