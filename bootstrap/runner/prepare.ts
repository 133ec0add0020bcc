import type { HostFacts } from "../../plan/facts";
import { hypotheticalHost } from "../../plan/gpu-types";
import { makePlan } from "../../plan/make-plan";
import type { ModelShape } from "../../plan/model-shape";
import type { Plan, PlanResult } from "../../plan/plan";
import { ProblemsError, type Problem } from "../../plan/problem";
import type { Settings } from "../../plan/settings";
import { keepLastSeen, type LastSeen } from "./last-seen";
import { findShape, requireWeights } from "./model";
import { holds, observeHosts, withoutOwnUse, type Host } from "./observe";
import type { HostTarget } from "./request";
import { hostTargets, targetName } from "./targets";

/** One host with what is going to be done on it. */
export interface PreparedHost {
  readonly host: Host;
  readonly plan: Plan;
}

/** Everything that is known before the first resource: settings, the observed hosts, a plan for each that fits. */
export interface Prepared {
  readonly settings: Settings;
  readonly hosts: readonly PreparedHost[];
}

/**
 * Observes the hosts, plans for each of them and asks the hub, changing nothing.
 * @param stack id of the stack on its hosts: lower-case letters, digits and dashes
 * @throws ProblemsError with everything that is in the way, on all hosts
 */
export async function prepare(settings: Settings, stack: string): Promise<Prepared> {
  const observed = await observeHosts(hostTargets(settings), settings, stack);
  const without = observed.find(({ host }) => !holds(host, "weights"));
  if (without !== undefined) await requireWeights(settings, without.host.target);
  const planned = await Promise.all(
    observed.map(async ({ host, seen }) => {
      const shape = await shapeFor(settings, host, seen);
      return { host, result: makePlan({ settings, shape, hosts: [withoutOwnUse(host)] }), shape };
    }),
  );
  const prepared = planned.flatMap(({ host, result }) =>
    result.plan === undefined ? [] : [{ host, plan: result.plan }],
  );
  if (prepared.length < planned.length) throw doesNotFit(planned);
  for (const { host, shape } of planned) {
    const { model, revision } = settings;
    if (host.unreachableBecause === undefined && host.target.kind !== "local") {
      keepLastSeen(host.target, stack, { facts: host.facts, shape: { model, revision, shape } });
    }
  }
  return { settings, hosts: prepared };
}

/** Weights that are on the host need no hub to be planned again. */
async function shapeFor(settings: Settings, host: Host, seen: LastSeen | undefined): Promise<ModelShape> {
  const known = seen?.shape;
  const isSame = known?.model === settings.model && known.revision === settings.revision;
  if (known !== undefined && isSame && holds(host, "weights")) return known.shape;
  return findShape(settings, { target: host.target, cacheDirectory: host.facts.cache.path });
}

/** A plan for one host, or why there is none. */
export interface HostPlanResult {
  /** Absent for a machine that does not exist. */
  readonly target?: HostTarget;
  readonly result: PlanResult;
}

/**
 * Plans on what the hosts are, without asking which steps hold there; without hosts on the GPUs that the settings name.
 * @throws ProblemsError when the model's shape can't be had
 */
export async function planFor(
  settings: Settings,
  hosts: readonly { readonly target: HostTarget; readonly facts: HostFacts }[],
): Promise<HostPlanResult[]> {
  if (hosts.length === 0) {
    const shape = await findShape(settings);
    return [{ result: makePlan({ settings, shape, hosts: hypotheticalHosts(settings) }) }];
  }
  return Promise.all(
    hosts.map(async ({ target, facts }) => {
      const shape = await findShape(settings, { target, cacheDirectory: facts.cache.path });
      return { target, result: makePlan({ settings, shape, hosts: [facts] }) };
    }),
  );
}

function hypotheticalHosts(settings: Settings): HostFacts[] {
  if (settings.gpuType === undefined) {
    const what = "planning without the machine needs the type of its GPUs";
    throw new ProblemsError([{ setting: "gpuType", what, fix: "--gpu-type h100-80gb, or plan on the machine itself" }]);
  }
  const gpus = settings.gpus === "all" ? 1 : settings.gpus;
  return [hypotheticalHost({ gpus, gpuType: settings.gpuType })];
}

/** Every problem of every host, which is named unless it is this machine alone. */
function doesNotFit(planned: readonly { readonly host: Host; readonly result: PlanResult }[]): ProblemsError {
  const isAlone = planned.length === 1 && planned[0]?.host.target.kind === "local";
  const problems: Problem[] = [];
  const works: string[] = [];
  for (const { host, result } of planned) {
    if (result.plan !== undefined) continue;
    const where = isAlone ? "" : `on ${targetName(host.target)}: `;
    problems.push(...result.problems.map((problem) => ({ ...problem, what: `${where}${problem.what}` })));
    works.push(...result.alternatives.map(({ text }) => `\n  works${isAlone ? "" : ` on ${host.name}`}: ${text}`));
  }
  return new ProblemsError(problems, "The plan does not fit", works.join(""));
}
