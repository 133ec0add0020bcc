import { randomBytes } from "node:crypto";
import type { HostFacts } from "../../plan/facts";
import { hypotheticalHost } from "../../plan/gpu-types";
import { makePlan } from "../../plan/make-plan";
import type { Plan, PlanResult } from "../../plan/plan";
import { ProblemsError } from "../../plan/problem";
import type { Settings } from "../../plan/settings";
import { readChecks, readFacts } from "./host";
import { findShape, requireWeights } from "./model";
import { STEP_NAMES, type HostTarget, type StepCheck, type StepName } from "./request";

/** One host, observed, ready to be asked for steps. */
export interface Host {
  readonly target: HostTarget;
  /** Id of the stack on the host. */
  readonly stack: string;
  readonly facts: HostFacts;
  readonly reachable: boolean;
  readonly checks: readonly StepCheck[];
  /** The repair token of each step: what the host has stored where the step holds, else a fresh one that names the reason. */
  readonly tokens: Readonly<Record<StepName, string>>;
}

/** Everything that is known before the first resource: settings, a plan that fits, the observed host. */
export interface Prepared {
  readonly settings: Settings;
  readonly plan: Plan;
  readonly host: Host;
}

/**
 * Observes the host, makes the plan and asks the hub, changing nothing.
 * @param stack id of the stack on the host: lower-case letters, digits and dashes
 * @throws ProblemsError with everything that is in the way
 */
export async function prepare(settings: Settings, stack: string): Promise<Prepared> {
  const target = localTarget(settings);
  const [facts, checks] = await Promise.all([readFacts(target, settings.port), readChecks(target, stack)]);
  const host: Host = { target, stack, facts, reachable: true, checks, tokens: repairTokens(checks) };
  const shape = await findShape(settings, facts.cache.path);
  if (!holds(host, "weights")) await requireWeights(settings);
  const result = makePlan({ settings, shape, hosts: [withoutOwnUse(host)] });
  if (result.plan === undefined) throw doesNotFit(result);
  return { settings, plan: result.plan, host };
}

/**
 * Plans without touching a host: on the machine's own facts, or on the GPUs that the settings name.
 * @throws ProblemsError when the model's shape can't be had
 */
export async function planFor(settings: Settings, facts?: HostFacts): Promise<PlanResult> {
  const shape = await findShape(settings, facts?.cache.path);
  const hosts = facts === undefined ? hypotheticalHosts(settings) : [facts];
  return makePlan({ settings, shape, hosts });
}

function hypotheticalHosts(settings: Settings): HostFacts[] {
  if (settings.gpuType === undefined) {
    const what = "planning without the machine needs the type of its GPUs";
    throw new ProblemsError([{ setting: "gpuType", what, fix: "--gpu-type h100-80gb, or plan on the machine itself" }]);
  }
  const gpus = settings.gpus === "all" ? 1 : settings.gpus;
  return [hypotheticalHost({ gpus, gpuType: settings.gpuType })];
}

function localTarget(settings: Settings): HostTarget {
  switch (settings.target) {
    case "local":
      return { kind: "local" };
    case "ssh":
    case "ec2":
    case "kubernetes":
      throw new ProblemsError([
        {
          setting: "target",
          what: "this version can plan for it but not deploy to it",
          value: settings.target,
          allowed: "local",
          fix: "run tandem on the machine itself with target local",
        },
      ]);
    default:
      throw new Error(`unknown target ${JSON.stringify(settings.target satisfies never)}`);
  }
}

function repairTokens(checks: readonly StepCheck[]): Record<StepName, string> {
  const tokenOf = (step: StepName): string => {
    const check = checks.find((candidate) => candidate.step === step);
    if (check?.holds) return check.token;
    return `${check?.reason ?? "not applied on this host yet"} #${randomBytes(4).toString("hex")}`;
  };
  return Object.fromEntries(STEP_NAMES.map((step) => [step, tokenOf(step)])) as Record<StepName, string>;
}

function holds(host: Pick<Host, "checks">, step: StepName): boolean {
  return host.checks.some((check) => check.step === step && check.holds);
}

/** Whether the host has this step at all, running or broken. */
function has(host: Pick<Host, "checks">, step: StepName): boolean {
  return host.checks.some((check) => check.step === step);
}

/** The host as it would be without this stack: what the stack already uses must not count against it. */
function withoutOwnUse(host: Host): HostFacts {
  const { facts } = host;
  const unlimited = Number.MAX_SAFE_INTEGER;
  return {
    ...facts,
    cache: holds(host, "weights") && holds(host, "runtime") ? { ...facts.cache, freeGiB: unlimited } : facts.cache,
    ...(has(host, "serving") && {
      memoryAvailableGiB: facts.memoryTotalGiB,
      portHolder: undefined,
      gpus: facts.gpus.map((gpu) => ({ ...gpu, memoryUsedGiB: 0 })),
    }),
  };
}

function doesNotFit(result: Extract<PlanResult, { verdict: "does not fit" }>): ProblemsError {
  const nearest = result.alternatives.map(({ text }) => `\n  works: ${text}`).join("");
  return new ProblemsError(result.problems, "The plan does not fit", nearest);
}
