import { planEc2 } from "../../plan/ec2-plan";
import type { HostFacts } from "../../plan/facts";
import { hypotheticalHost } from "../../plan/gpu-types";
import { makePlan } from "../../plan/make-plan";
import type { ModelShape } from "../../plan/model-shape";
import type { Plan, PlanResult } from "../../plan/plan";
import { ProblemsError, type Problem } from "../../plan/problem";
import type { Settings } from "../../plan/settings";
import type { CloudPrepared } from "../cloud/prepare";
import type { ClusterPrepared } from "../kubernetes/prepare";
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
  /** Only where the machines are rented: `hosts` are then what there will be, until the launch has been. */
  readonly cloud?: CloudPrepared;
  /** Only where a cluster takes manifests; there are no hosts then. */
  readonly cluster?: ClusterPrepared;
}

export interface PrepareOptions {
  /** Called when the machines that the run launched can be worked on. */
  readonly onHosts?: (hosts: readonly PreparedHost[]) => void;
}

/**
 * Observes the hosts, plans for each of them and asks the hub, changing nothing.
 * @param stack id of the stack on its hosts: lower-case letters, digits and dashes
 * @throws ProblemsError with everything that is in the way, on all hosts
 */
export async function prepare(settings: Settings, stack: string, options: PrepareOptions = {}): Promise<Prepared> {
  if (settings.target === "kubernetes") {
    const { prepareCluster } = await import("../kubernetes/prepare.js");
    return { ...(await prepareCluster(settings, stack)), hosts: [] };
  }
  if (settings.target !== "ec2")
    return { settings, hosts: await prepareTargets(hostTargets(settings), settings, stack) };
  // The cloud's SDK takes a while to load: nobody else pays for it.
  const { prepareEc2 } = await import("../cloud/prepare.js");
  return prepareEc2(settings, stack, options);
}

/**
 * Observes these hosts and plans for each.
 * @param pricePerHourUsd of all of them together, where they are rented
 * @throws ProblemsError with everything that is in the way, on all hosts
 */
export async function prepareTargets(
  targets: readonly HostTarget[],
  settings: Settings,
  stack: string,
  pricePerHourUsd?: number,
): Promise<PreparedHost[]> {
  const observed = await observeHosts(targets, settings, stack);
  const without = observed.find(({ host }) => !holds(host, "weights"));
  if (without !== undefined) await requireWeights(settings, without.host.target);
  const planned = await Promise.all(
    observed.map(async ({ host, seen }) => {
      const shape = await shapeFor(settings, host, seen);
      return { host, result: makePlan({ settings, shape, hosts: [withoutOwnUse(host)], pricePerHourUsd }), shape };
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
  return prepared;
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
 * Plans on what the hosts are, without asking which steps hold there; without hosts on the machines or the GPUs that the settings name.
 * @param namesGpus whether `gpuType` asks about GPUs, not about machines
 * @throws ProblemsError when the model's shape can't be had
 */
export async function planFor(
  settings: Settings,
  hosts: readonly { readonly target: HostTarget; readonly facts: HostFacts }[],
  namesGpus = false,
): Promise<HostPlanResult[]> {
  if (hosts.length === 0) {
    const shape = await findShape(settings);
    if (settings.target === "ec2" && !namesGpus) return [{ result: planForEc2(settings, shape) }];
    return [{ result: makePlan({ settings, shape, hosts: hypotheticalHosts(settings) }) }];
  }
  return Promise.all(
    hosts.map(async ({ target, facts }) => {
      const shape = await findShape(settings, { target, cacheDirectory: facts.cache.path });
      return { target, result: makePlan({ settings, shape, hosts: [facts] }) };
    }),
  );
}

/** The first choice's plan, by the catalogue alone. */
function planForEc2(settings: Settings, shape: ModelShape): PlanResult {
  const { ec2, ...rest } = planEc2(settings, shape);
  if (ec2 === undefined) return { verdict: "does not fit", alternatives: [], ...rest };
  const plan = { ...ec2.plan, warnings: [...ec2.plan.warnings, ...ec2.dropped] };
  return { verdict: plan.verdict, plan, problems: [] };
}

function hypotheticalHosts(settings: Settings): HostFacts[] {
  if (settings.gpuType === undefined) {
    const what = "planning without the machine needs the type of its GPUs";
    const other =
      settings.target === "kubernetes" ? "tandem preview, which asks the cluster" : "plan on the machine itself";
    throw new ProblemsError([{ setting: "gpuType", what, fix: `--gpu-type h100-80gb, or ${other}` }]);
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
