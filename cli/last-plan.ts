import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Plan } from "../plan/plan";
import type { Environment } from "./environments";

/** Keeps what the last `up` wanted, so that `status` compares with that and not with what the settings say by now. */
export function keepPlan(environment: Environment, plan: Plan): void {
  const path = planFile(environment);
  writeFileSync(`${path}.draft`, JSON.stringify(plan), { mode: 0o600 });
  renameSync(`${path}.draft`, path);
}

/** The plan of the last `up`; undefined when there was none. */
export function lastPlan(environment: Environment): Plan | undefined {
  const path = planFile(environment);
  // Written by keepPlan() alone.
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Plan) : undefined;
}

export function forgetPlan(environment: Environment): void {
  rmSync(planFile(environment), { force: true });
}

function planFile(environment: Environment): string {
  return join(environment.folder, "plan.json");
}
