import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { writeWhole } from "../bootstrap/runner/write-whole";
import type { Plan } from "../plan/plan";
import type { Environment } from "./environments";

/** What the last `up` wanted, by the host's name. */
export type HostPlans = Readonly<Record<string, Plan>>;

/** Keeps what the last `up` wanted, so that `status` compares with that and not with what the settings say by now. */
export function keepPlans(environment: Environment, plans: HostPlans): void {
  writeWhole(planFile(environment), JSON.stringify(plans));
}

/** The plans of the last `up`; empty when there was none. */
export function lastPlans(environment: Environment): HostPlans {
  const path = planFile(environment);
  // Written by keepPlans() alone.
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as HostPlans) : {};
}

/** Why nothing can be proven by a plan: an earlier version of Tandem wrote it, and did not say yet where vLLM listens. */
export function outdated(plan: Plan, environment: string): string | undefined {
  // Written by whatever version made the last `up`.
  const { servingPort } = plan as Partial<Plan>;
  if (servingPort !== undefined) return undefined;
  return `the last \`up\` was made by an older Tandem, which did not note where vLLM listens — fix: tandem up --env ${environment}`;
}

export function forgetPlans(environment: Environment): void {
  rmSync(planFile(environment), { force: true });
}

function planFile(environment: Environment): string {
  return join(environment.folder, "plans.json");
}
