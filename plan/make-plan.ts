import { findAlternatives } from "./alternatives";
import { planOnCpu } from "./cpu-plan";
import { chooseDevice } from "./device-choice";
import type { HostFacts } from "./facts";
import { planOnGpus, type Attempt } from "./gpu-plan";
import { hostProblems } from "./host-problems";
import { modelProblems } from "./model-problems";
import type { PlanRequest, PlanResult } from "./plan";
import type { Problem } from "./problem";

/**
 * Works out what is going to be done: which GPUs, tensor parallel size and replicas, where each GPU's memory goes, disk, time and cost.
 * Pure: the same facts give the same plan. Facts that change by themselves (free memory, programs on a GPU) can only make it
 * impossible, they never change it.
 * @returns a plan that fits or is tight; or every problem at once, with the nearest settings that do fit, each verified by this same function
 */
export function makePlan(request: PlanRequest): PlanResult {
  const attempt = attemptPlan(request);
  if (attempt.plan !== undefined) return { verdict: attempt.plan.verdict, plan: attempt.plan, problems: [] };
  return { verdict: "does not fit", problems: attempt.problems, alternatives: findAlternatives(request, attemptPlan) };
}

function attemptPlan(request: PlanRequest): Attempt {
  const [host, ...more] = request.hosts;
  if (host === undefined) return { problems: [noHost(request)] };
  if (more.length > 0) return { problems: [severalHosts(request)] };
  return planOnHost(request, host);
}

function planOnHost(request: PlanRequest, host: HostFacts): Attempt {
  const { settings, shape } = request;
  const choice = chooseDevice(settings, host);
  const early = [...choice.problems, ...modelProblems(settings, shape), ...hostProblems(settings, host, choice.device)];
  // Without the GPUs that were asked for there is nothing to lay the model over.
  if (choice.device === "cuda" && choice.gpus.length === 0) return { problems: early };
  if (choice.problems.length > 0) return { problems: early };
  const attempt = choice.device === "cuda" ? planOnGpus(request, host, choice.gpus) : planOnCpu(request, host);
  return early.length > 0 ? { problems: [...early, ...attempt.problems] } : attempt;
}

function noHost({ settings }: PlanRequest): Problem {
  return {
    setting: "target",
    what: "there is no machine to plan for",
    value: settings.target,
    fix: "set `gpus` and `gpuType` to plan without one",
  };
}

function severalHosts({ hosts }: PlanRequest): Problem {
  return {
    setting: "target",
    what: "one model over several machines can't be planned yet",
    value: hosts.map(({ name }) => name).join(", "),
    allowed: "one machine",
  };
}
