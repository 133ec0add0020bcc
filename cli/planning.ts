import { silentHost } from "../bootstrap/runner/observe";
import { readFactsAndChecks } from "../bootstrap/runner/read-host";
import { planFor, prepare, type HostPlanResult, type Prepared, type PrepareOptions } from "../bootstrap/runner/prepare";
import { hostTargets, targetName } from "../bootstrap/runner/targets";
import type { HostTarget } from "../bootstrap/runner/request";
import type { HostFacts } from "../plan/facts";
import type { Plan, PlanResult } from "../plan/plan";
import { formatProblem, ProblemsError, type Problem } from "../plan/problem";
import { renderPlan } from "../plan/render";
import type { Settings } from "../plan/settings";
import { CommandError, EXIT } from "./exit";
import type { RunSettings } from "./settings";

/**
 * Plans without changing anything: on the facts of the hosts that would serve, else on the GPUs that the settings name.
 * @throws ProblemsError naming every host that can't be asked
 */
export async function planHosts(
  { settings, changes }: Pick<RunSettings, "settings" | "changes">,
  stack: string,
): Promise<HostPlanResult[]> {
  // Whoever names GPUs on the command line asks about those, not about machines.
  const namesGpus = changes.some(({ path }) => path.join(".") === "gpuType");
  if (namesGpus || (settings.target !== "local" && settings.target !== "ssh")) return planFor(settings, [], namesGpus);
  const problems: Problem[] = [];
  const asked = await Promise.all(
    hostTargets(settings).map(async (target) => {
      try {
        return { target, facts: await factsToPlanOn(target, settings, stack) };
      } catch (error) {
        problems.push(silentHost(target, error));
        return undefined;
      }
    }),
  );
  if (problems.length > 0) throw new ProblemsError(problems, "Some hosts can't be asked");
  const hosts = asked.filter((host) => host !== undefined);
  const usesCpu = settings.gpus === 0 || settings.gpuType === undefined;
  const isHere = settings.target === "ssh" || usesCpu || hosts.every(({ facts }) => facts.gpus.length > 0);
  return planFor(settings, isHere ? hosts : []);
}

async function factsToPlanOn(target: HostTarget, settings: Settings, stack: string): Promise<HostFacts> {
  const { facts, checks } = await readFactsAndChecks(target, settings.port, stack);
  const isServing = checks.some(({ step }) => step === "serving");
  // The port belongs to whoever holds it now, and what this environment uses already does not count against it.
  return {
    ...facts,
    portHolder: undefined,
    ...(isServing && {
      memoryAvailableGiB: facts.memoryTotalGiB,
      gpus: facts.gpus.map((gpu) => ({ ...gpu, memoryUsedGiB: 0 })),
    }),
  };
}

/**
 * Observes the hosts and plans for each, as the program will.
 * @throws CommandError (does not fit) or ProblemsError (settings)
 */
export async function prepareHosts(settings: Settings, stack: string, options: PrepareOptions = {}): Promise<Prepared> {
  try {
    return await prepare(settings, stack, options);
  } catch (error) {
    if (error instanceof ProblemsError && error.message.startsWith("The plan does not fit")) {
      throw new CommandError(error.message, EXIT.doesNotFit, { problems: error.problems });
    }
    throw error;
  }
}

/** What is planned, by the name of the host, or of the cluster whose pods are all alike. */
export function plansOf({ hosts, cluster }: Prepared): { readonly name: string; readonly plan: Plan }[] {
  if (cluster !== undefined) return [{ name: cluster.context, plan: cluster.plan }];
  return hosts.map(({ host, plan }) => ({ name: host.name, plan }));
}

type Misfit = Extract<PlanResult, { verdict: "does not fit" }>;

/** What people read of a plan that does not fit: every problem, then the nearest settings that do. */
export function renderMisfit(result: Misfit, hostName?: string): string {
  const problems = result.problems.map((problem) => `  - ${formatProblem(problem)}`);
  const alternatives = result.alternatives.map(({ text }) => `  - ${text}`);
  const works = alternatives.length === 0 ? [] : ["What works:", ...alternatives];
  return [`The plan does not fit${hostName === undefined ? "" : ` on ${hostName}`}:`, ...problems, ...works].join("\n");
}

/** The plan with a bar for each GPU, as wide as the terminal and coloured where that can be seen. */
export function renderForStream(plan: Plan, stream: NodeJS.WriteStream): string {
  return renderPlan(plan, {
    width: Math.min(stream.columns || 100, 120),
    color: stream.isTTY && process.env["NO_COLOR"] === undefined,
  });
}

/** The plans of all hosts; equal ones once, under the names of their hosts. */
export function renderPlans(
  plans: readonly { readonly name: string; readonly plan: Plan }[],
  stream: NodeJS.WriteStream,
): string {
  const namesByText = new Map<string, string[]>();
  for (const { name, plan } of plans) {
    const text = renderForStream(plan, stream);
    namesByText.set(text, [...(namesByText.get(text) ?? []), name]);
  }
  if (plans.length === 1) return [...namesByText.keys()].join("");
  return [...namesByText].map(([text, names]) => `${names.join(", ")}\n${text}`).join("\n\n");
}

/** By the name of its host; for a machine that does not exist there is none. */
export function resultName({ target }: HostPlanResult): string | undefined {
  return target === undefined ? undefined : targetName(target);
}
