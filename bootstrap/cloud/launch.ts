import { CreateTagsCommand } from "@aws-sdk/client-ec2";
import { setTimeout as sleep } from "node:timers/promises";
import { describeRung, runsOf, type Rung } from "../../plan/ec2-ladder";
import type { Clients } from "./clients";
import { mayPass, renderRungErrors, type RungError, classifyCode } from "./ladder-errors";
import { endMachines } from "./launch-end";
import { requestFleet } from "./launch-fleet";
import { digestOf, machineNames, type LaunchedMachine, type LaunchRequest, type LaunchResult } from "./launch-request";
import { EC2_TAGS, findMachines, livingMachines, MACHINE_TAGS, type Machine } from "./machines";
import { readOfferings } from "./network-reads";

export interface LaunchOptions {
  readonly onProgress: (line: string) => void;
  /** What an earlier run of the step left, living or not. */
  readonly previous?: LaunchResult;
  /** Pause before the second try; it doubles with each further one. */
  readonly firstPauseSeconds?: number;
  /** Limit for a machine to run and have an address. */
  readonly startSeconds?: number;
}

type Choice = Rung & { readonly subnetId: string };

const FIRST_PAUSE_SECONDS = 15;
const LONGEST_PAUSE_SECONDS = 300;
const START_SECONDS = 600;
const POLL_SECONDS = 2;

/**
 * Brings the stack's machines to the wanted number: those that live already count, so a run after a killed one makes none twice.
 * @throws Error with EC2's answer for every choice when they can't all be had; then none that this call launched is left
 */
export async function launchMachines(
  clients: Clients,
  request: LaunchRequest,
  { onProgress, previous, firstPauseSeconds, startSeconds }: LaunchOptions,
): Promise<LaunchResult> {
  const living = await adopt(clients, request, onProgress);
  const choices = await choicesOf(clients, request);
  const launched: string[] = [];
  const fleets: string[] = [];
  const known = [...living, ...(previous?.machines ?? [])].map(({ instanceId }) => instanceId).toSorted();
  const deadline = Date.now() + request.waitSeconds * 1000;
  try {
    for (let attempt = 1; ; attempt++) {
      const errors = await tryLadder(clients, request, {
        choices,
        living,
        launched,
        fleets,
        known,
        attempt,
        onProgress,
      });
      if (living.length + launched.length < request.machines) {
        await pauseOrFail({ errors, attempt, deadline, firstPauseSeconds, onProgress, choices });
        continue;
      }
      const failed = await waitUntilRunning(clients, launched, startSeconds ?? START_SECONDS, onProgress);
      if (failed.length === 0) break;
      // EC2 took them back while they started: another choice may do better.
      for (const { instanceId } of failed) launched.splice(launched.indexOf(instanceId), 1);
      await pauseOrFail({ errors: failed.map(toRungError), attempt, deadline, firstPauseSeconds, onProgress, choices });
    }
    return {
      region: request.region,
      machines: await nameMachines(clients, request, [...living.map((m) => m.instanceId), ...launched]),
    };
  } catch (error) {
    await endMachines(clients, { instanceIds: launched, fleetIds: fleets, onProgress }).catch((left: unknown) =>
      onProgress(`not ended: ${left instanceof Error ? left.message : String(left)}`),
    );
    throw error;
  }
}

/** The stack's machines of this launch that run; what is stopped or too many ends. */
async function adopt(clients: Clients, request: LaunchRequest, onProgress: (line: string) => void): Promise<Machine[]> {
  const { id } = request.launchTemplate;
  const own = (await livingMachines(clients, request.stack)).filter(
    ({ tags }) => tags[MACHINE_TAGS.launch] === request.launch && (tags[EC2_TAGS.template] ?? id) === id,
  );
  const running = own.filter(({ state }) => state === "pending" || state === "running").slice(0, request.machines);
  const surplus = own.filter((machine) => !running.includes(machine)).map(({ instanceId }) => instanceId);
  if (running.length > 0) onProgress(`there already: ${running.map(({ instanceId }) => instanceId).join(", ")}`);
  if (surplus.length > 0) await endMachines(clients, { instanceIds: surplus, onProgress });
  return running;
}

/** The ladder with a zone and its subnet for each choice. */
async function choicesOf(clients: Clients, { rungs, subnets }: LaunchRequest): Promise<Choice[]> {
  const open = rungs.filter(({ zone }) => zone === undefined).map(({ instanceType }) => instanceType);
  const offered = open.length === 0 ? undefined : await readOfferings(clients, [...new Set(open)]);
  const choices = rungs.flatMap((rung) =>
    subnets
      .filter(({ zone }) =>
        rung.zone === undefined ? offered?.get(rung.instanceType)?.includes(zone) === true : zone === rung.zone,
      )
      .map(({ id, zone }): Choice => ({ ...rung, zone, subnetId: id })),
  );
  if (choices.length > 0) return choices;
  throw new Error(`no choice of the ladder is in a zone with a subnet: ${rungs.map(describeRung).join("; ")}`);
}

interface Try {
  readonly choices: readonly Choice[];
  readonly living: readonly Machine[];
  /** Grows. */
  readonly launched: string[];
  /** Grows. */
  readonly fleets: string[];
  readonly known: readonly string[];
  readonly attempt: number;
  readonly onProgress: (line: string) => void;
}

/** Goes down the ladder once, one request for each run of choices of the same market. @returns what could not be had */
async function tryLadder(clients: Clients, request: LaunchRequest, state: Try): Promise<RungError[]> {
  const { choices, living, launched, fleets, known, attempt, onProgress } = state;
  const errors: RungError[] = [];
  for (const [index, run] of runsOf(choices).entries()) {
    const count = request.machines - living.length - launched.length;
    if (count === 0) break;
    onProgress(`asking for ${count === 1 ? "a machine" : `${count} machines`}: ${run.map(describeRung).join("; ")}`);
    const { launch, launchTemplate, tags, maxPricePerHourUsd } = request;
    const answer = await requestFleet(clients, {
      clientToken: digestOf(launch, tags, launchTemplate, known, launched, attempt, index),
      count,
      launchTemplate,
      choices: run,
      tags: { ...tags, [MACHINE_TAGS.launch]: launch },
      maxPricePerHourUsd,
    });
    launched.push(...answer.instanceIds);
    errors.push(...answer.errors);
    if (answer.fleetId !== undefined && answer.instanceIds.length > 0) fleets.push(answer.fleetId);
    if (answer.fleetId !== undefined && answer.instanceIds.length === 0) {
      await endMachines(clients, { instanceIds: [], fleetIds: [answer.fleetId], onProgress });
    }
    for (const { rung, class: kind, code } of answer.errors) onProgress(`${describeRung(rung)}: ${kind} (${code})`);
  }
  return errors;
}

interface Pause {
  readonly errors: readonly RungError[];
  readonly attempt: number;
  /** In milliseconds since 1970. */
  readonly deadline: number;
  readonly firstPauseSeconds?: number;
  readonly onProgress: (line: string) => void;
  readonly choices: readonly Choice[];
}

/** Waits for the next try where waiting may help and there is time left. @throws Error with the table of what EC2 said */
async function pauseOrFail({
  errors,
  attempt,
  deadline,
  firstPauseSeconds,
  onProgress,
  choices,
}: Pause): Promise<void> {
  const pause = Math.min(LONGEST_PAUSE_SECONDS, (firstPauseSeconds ?? FIRST_PAUSE_SECONDS) * 2 ** (attempt - 1)) * 1000;
  if (!mayPass(errors) || Date.now() + pause > deadline) {
    const tries = attempt === 1 ? "one try" : `${attempt} tries`;
    const silent = errors.length === 0 ? "\n  EC2 gave no reason" : `\n${renderRungErrors(errors)}`;
    throw new Error(`no machine could be had: ${choices.length} choices, ${tries}${silent}`);
  }
  const clock = (time: number) => new Date(time).toISOString().slice(11, 19);
  onProgress(
    `no capacity in try ${attempt}: the next is at ${clock(Date.now() + pause)} UTC, the last before ${clock(deadline)} UTC`,
  );
  await sleep(pause);
}

/** @returns the machines that EC2 ended before they ran */
async function waitUntilRunning(
  clients: Clients,
  ids: readonly string[],
  limitSeconds: number,
  onProgress: (line: string) => void,
): Promise<Machine[]> {
  const deadline = Date.now() + limitSeconds * 1000;
  for (let poll = 0; ids.length > 0; poll++) {
    const machines = await findMachines(clients, [{ Name: "instance-id", Values: [...ids] }]);
    const waiting = ids.filter(
      (id) => !machines.some(({ instanceId, state }) => instanceId === id && state !== "pending"),
    );
    const failed = machines.filter(({ state }) => state !== "pending" && state !== "running");
    if (waiting.length === 0) return failed;
    if (Date.now() > deadline) throw new Error(`not running after ${limitSeconds} s: ${waiting.join(", ")}`);
    if (poll % 15 === 14) onProgress(`starting: ${waiting.join(", ")}`);
    await sleep(POLL_SECONDS * (poll < 3 ? 100 : 1000));
  }
  return [];
}

function toRungError({ instanceType, zone, market, stateReason = "" }: Machine): RungError {
  const [code = "", ...rest] = stateReason.split(": ");
  const rung = { instanceType, zone, market };
  return { rung, class: classifyCode(code, stateReason), code, message: rest.join(": ") };
}

/** Gives each machine a name of its own, which it keeps; a new one takes the place of one that is gone. */
async function nameMachines(
  clients: Clients,
  request: LaunchRequest,
  ids: readonly string[],
): Promise<LaunchedMachine[]> {
  const machines = await findMachines(clients, [{ Name: "instance-id", Values: [...ids] }]);
  const names = machineNames(request.machines);
  const taken = new Set(machines.map(({ name }) => name));
  const free = names.filter((name) => !taken.has(name));
  const named = await Promise.all(
    machines.map(async (machine) => {
      if (machine.name !== undefined && names.includes(machine.name)) return { ...machine, name: machine.name };
      const name = free.shift() ?? machine.instanceId;
      const tags = { [MACHINE_TAGS.name]: name, Name: `${request.stack}-${name}` };
      const list = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
      await clients.ec2.send(new CreateTagsCommand({ Resources: [machine.instanceId], Tags: list }));
      return { ...machine, name };
    }),
  );
  return named
    .toSorted((one, other) => names.indexOf(one.name) - names.indexOf(other.name))
    .map(({ name, instanceId, instanceType, zone, market, publicAddress, privateAddress, fleetId }) => ({
      name,
      instanceId,
      instanceType,
      zone,
      market,
      ...(publicAddress !== undefined && { publicAddress }),
      privateAddress,
      ...(fleetId !== undefined && { fleetId }),
    }));
}
