import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { isAbsolute, join, resolve } from "node:path";
import type { HostFacts } from "../../plan/facts";
import { hypotheticalHost } from "../../plan/gpu-types";
import { builtInShape, shapeFromConfig, type ModelShape } from "../../plan/model-shape";
import { makePlan, type Plan, type PlanResult } from "../../plan/plan";
import { ProblemsError, type Problem } from "../../plan/problem";
import type { Settings } from "../../plan/settings";
import { readChecks, readFacts } from "./host";
import { askHub, type HubAnswer } from "./hub";
import { STEP_NAMES, type HostTarget, type StepCheck, type StepName } from "./request";

/** The one model whose weights a package index carries, for machines that reach no hub. */
export const PACKAGED_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct";

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
  const shape = await findShape(settings);
  if (!holds(host, "weights")) await requireWeights(settings);
  const result = makePlan({ settings, shape, hosts: [withoutOwnUse(host)] });
  if (!("plan" in result)) throw doesNotFit(result);
  return { settings, plan: result.plan, host };
}

/**
 * Plans without touching a host: on the machine's own facts, or on the GPUs that the settings name.
 * @throws ProblemsError when the model's shape can't be had
 */
export async function planFor(settings: Settings, facts?: HostFacts): Promise<PlanResult> {
  const shape = await findShape(settings);
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

/** The model's shape: from its directory, built in, or from the hub, in this order. */
export async function findShape(settings: Settings): Promise<ModelShape> {
  const { model } = settings;
  if (isPath(model)) return shapeOfDirectory(model);
  const builtIn = builtInShape(model);
  if (builtIn !== undefined) return builtIn;
  const answer = await askHub(model, settings.revision, settings.hubToken);
  if (answer.kind !== "ok") throw new ProblemsError([hubProblem(settings, answer)]);
  return requireShape(shapeFromConfig(answer.config, model));
}

/** A hub id is `owner/name`; anything that starts like a path, or that is there, is a path. */
function isPath(model: string): boolean {
  return isAbsolute(model) || /^\.{1,2}\//.test(model) || model.startsWith("~/") || existsSync(model);
}

function shapeOfDirectory(model: string): ModelShape {
  const config = join(resolve(model), "config.json");
  if (!existsSync(config)) {
    const what = existsSync(model) ? "the directory is not a model: it has no config.json" : "the path does not exist";
    throw new ProblemsError([
      { setting: "model", what, value: model, allowed: "a hub id (owner/name) or a model directory" },
    ]);
  }
  return requireShape(shapeFromConfig(JSON.parse(readFileSync(config, "utf8")), model));
}

function requireShape(shape: ModelShape | Problem): ModelShape {
  if ("setting" in shape) throw new ProblemsError([shape]);
  return shape;
}

/** Says before anything starts what would fail an hour later: a gated model, a wrong name, no network. */
async function requireWeights(settings: Settings): Promise<void> {
  if (isPath(settings.model)) return;
  const answer = await askHub(settings.model, settings.revision, settings.hubToken, 5);
  const packaged = settings.model === PACKAGED_MODEL && answer.kind === "unreachable";
  if (answer.kind !== "ok" && !packaged) throw new ProblemsError([hubProblem(settings, answer)]);
}

function hubProblem({ model, revision }: Settings, answer: Exclude<HubAnswer, { kind: "ok" }>): Problem {
  switch (answer.kind) {
    case "gated":
      return {
        setting: "hubToken",
        what: `the model ${model} is gated and this account has no access`,
        fix: "accept its licence on the hub, then: tandem up --set hubToken=…",
      };
    case "missing":
      return {
        setting: answer.what === "revision" ? "revision" : "model",
        what: answer.what === "config.json" ? "the hub has it, but without a config.json" : `the hub knows no such ${answer.what}`,
        value: answer.what === "revision" ? revision : model,
        fix: "check the spelling; a private model needs hubToken",
      };
    case "unreachable":
      return {
        setting: "model",
        what: `the model hub can't be reached (${answer.reason}) and the weights are not in the cache`,
        value: model,
        fix: `set model to a directory, or use ${PACKAGED_MODEL}, which comes from the package index`,
      };
    default:
      throw new Error(`unknown answer ${JSON.stringify(answer satisfies never)}`);
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

function doesNotFit(result: Exclude<PlanResult, { plan: Plan }>): ProblemsError {
  return new ProblemsError(result.problems, "The plan does not fit");
}
