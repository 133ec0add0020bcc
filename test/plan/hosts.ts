import {
  builtInShape,
  formatProblem,
  hypotheticalHost,
  makePlan,
  parseSettings,
  type HostFacts,
  type Plan,
  type PlanResult,
  type SettingsInput,
} from "../../plan";

export const H100S = (gpus: number): HostFacts => hypotheticalHost({ gpus, gpuType: "h100-80gb" });

/** A machine of two cores and 24 GiB without a GPU. */
export const CPU_HOST: HostFacts = {
  ...hypotheticalHost({ gpus: 0, gpuType: "h100-80gb" }),
  name: "small",
  cpuCores: 2,
  memoryTotalGiB: 24,
  memoryAvailableGiB: 20,
  gpus: [],
  driverVersion: undefined,
};

/** Plans raw settings for a built-in model. */
export function planWith(raw: SettingsInput, host: HostFacts): PlanResult {
  const { settings, problems } = parseSettings(raw);
  if (settings === undefined) throw new Error(problems.map(formatProblem).join("\n"));
  const shape = builtInShape(settings.model);
  if (shape === undefined) throw new Error(`no built-in shape of ${settings.model}`);
  return makePlan({ settings, shape, hosts: [host] });
}

/** The plan of settings that must work. */
export function planOf(raw: SettingsInput, host: HostFacts): Plan {
  const { plan, problems } = planWith(raw, host);
  if (plan === undefined) throw new Error(problems.map(formatProblem).join("\n"));
  return plan;
}

/** The result of settings that must not work. */
export function refusalOf(raw: SettingsInput, host: HostFacts): Extract<PlanResult, { verdict: "does not fit" }> {
  const result = planWith(raw, host);
  if (result.plan !== undefined)
    throw new Error(`expected a refusal, got tensor parallel ${result.plan.tensorParallel}`);
  return result;
}
