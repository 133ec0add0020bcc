import { readChecks, readFacts } from "../bootstrap/runner/host";
import { planFor, prepare, type Prepared } from "../bootstrap/runner/prepare";
import type { HostFacts } from "../plan/facts";
import type { PlanResult } from "../plan/plan";
import { formatProblem, ProblemsError } from "../plan/problem";
import { renderPlan } from "../plan/render";
import type { Settings } from "../plan/settings";
import { CommandError, EXIT } from "./exit";
import type { RunSettings } from "./settings";

const HOST = { kind: "local" } as const;

/**
 * Plans without changing anything: on this machine's own facts where it is the one that would serve, else on the GPUs that
 * the settings name.
 */
export async function planHere(run: Pick<RunSettings, "settings" | "changes">, stack: string): Promise<PlanResult> {
  return planFor(run.settings, await factsToPlanOn(run, stack));
}

async function factsToPlanOn(
  { settings, changes }: Pick<RunSettings, "settings" | "changes">,
  stack: string,
): Promise<HostFacts | undefined> {
  // Whoever names GPUs on the command line asks about those, not about this machine.
  const namesGpus = changes.some(({ path }) => path.join(".") === "gpuType");
  if (namesGpus || settings.target !== "local") return undefined;
  const [facts, checks] = await Promise.all([readFacts(HOST, settings.port), readChecks(HOST, stack)]);
  const isServing = checks.some(({ step }) => step === "serving");
  // The port belongs to whoever holds it now, and what this environment uses already does not count against it.
  const here: HostFacts = {
    ...facts,
    portHolder: undefined,
    ...(isServing && {
      memoryAvailableGiB: facts.memoryTotalGiB,
      gpus: facts.gpus.map((gpu) => ({ ...gpu, memoryUsedGiB: 0 })),
    }),
  };
  const usesCpu = settings.gpus === 0 || settings.gpuType === undefined;
  return here.gpus.length > 0 || usesCpu ? here : undefined;
}

/**
 * Observes the host and plans for it, as the program will.
 * @throws CommandError (does not fit) or ProblemsError (settings)
 */
export async function prepareHost(settings: Settings, stack: string): Promise<Prepared> {
  try {
    return await prepare(settings, stack);
  } catch (error) {
    if (error instanceof ProblemsError && error.message.startsWith("The plan does not fit")) {
      throw new CommandError(error.message, EXIT.doesNotFit, { problems: error.problems });
    }
    throw error;
  }
}

/** What people read of a plan that does not fit: every problem, then the nearest settings that do. */
export function renderMisfit(result: Extract<PlanResult, { verdict: "does not fit" }>): string {
  const problems = result.problems.map((problem) => `  - ${formatProblem(problem)}`);
  const alternatives = result.alternatives.map(({ text }) => `  - ${text}`);
  const works = alternatives.length === 0 ? [] : ["What works:", ...alternatives];
  return ["The plan does not fit:", ...problems, ...works].join("\n");
}

/** The plan with a bar for each GPU, as wide as the terminal and coloured where that can be seen. */
export function renderForStream(plan: NonNullable<PlanResult["plan"]>, stream: NodeJS.WriteStream): string {
  return renderPlan(plan, {
    width: Math.min(stream.columns || 100, 120),
    color: stream.isTTY && process.env["NO_COLOR"] === undefined,
  });
}
