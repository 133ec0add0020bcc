import { readLog } from "../../bootstrap/runner/host";
import { STEP_NAMES } from "../../bootstrap/runner/request";
import { nearestName } from "../../plan/nearest";
import type { HostTarget } from "../../bootstrap/runner/request";
import type { Console } from "../console";
import { refuseCluster } from "../cluster";
import { chooseTarget, environmentTargets } from "../environment-hosts";
import { findEnvironment } from "../environments";
import { CommandError, EXIT } from "../exit";
import { success, type Report } from "../report";
import type { CommonOptions } from "./options";

const FOLLOW_MILLISECONDS = 1000;

/** `tandem logs`: the log of the service, or of one step, as its host has it. */
export async function logs(
  wanted: string | undefined,
  options: CommonOptions & { readonly follow: boolean; readonly host?: string },
  console: Console,
): Promise<Report> {
  const environment = findEnvironment(options.env);
  requireStep(wanted);
  refuseCluster(environment, "logs -l app.kubernetes.io/name=tandem --all-containers --prefix");
  // All steps' logs are printed one below the other, which can't be followed; the service's is the one that goes on.
  const step = wanted ?? (options.follow ? "serving" : undefined);
  const show = (text: string) => {
    if (!options.json) process.stdout.write(text);
  };
  const target = chooseTarget(environmentTargets(environment), options.host);
  let log = await fetchLog(target, environment.name, step);
  if (log === undefined) {
    throw new CommandError(
      `there is no log${step === undefined ? "" : ` of ${step}`} in environment ${environment.name} — fix: tandem up --env ${environment.name}`,
    );
  }
  show(log);
  while (options.follow && !options.json) {
    await new Promise((resolve) => setTimeout(resolve, FOLLOW_MILLISECONDS));
    const next: string = (await fetchLog(target, environment.name, step)) ?? "";
    if (next !== log) show(next.startsWith(log) ? next.slice(log.length) : next);
    log = next;
  }
  if (options.follow) console.say("--json prints the log as it is now; -f is left out");
  return success({ step, log: options.json ? log : undefined }, "");
}

function requireStep(step: string | undefined): void {
  if (step === undefined || (STEP_NAMES as readonly string[]).includes(step)) return;
  const near = nearestName(step, STEP_NAMES);
  const fix = near === undefined ? "" : ` — fix: tandem logs ${near}`;
  throw new CommandError(`no step of this name — got ${step} — allowed: ${STEP_NAMES.join(", ")}${fix}`, EXIT.usage);
}

async function fetchLog(target: HostTarget, stack: string, step: string | undefined): Promise<string | undefined> {
  let log = "";
  const code = await readLog(target, stack, step, (text) => (log += text));
  return code === 0 && log !== "" ? log : undefined;
}
