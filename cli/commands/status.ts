import { readChecks } from "../../bootstrap/runner/read-host";
import { PROOF_TIMEOUT_SECONDS, proofDocument } from "../../bootstrap/runner/proof";
import type { HostTarget, StepCheck, StepRequest } from "../../bootstrap/runner/request";
import { applyStep } from "../../bootstrap/runner/step";
import { targetName } from "../../bootstrap/runner/targets";
import { healthOf } from "../../stacks/build-outputs";
import type { Outputs } from "../../stacks/outputs";
import { compareProof, type Check } from "../../plan/compare";
import type { Plan } from "../../plan/plan";
import type { Proof } from "../../plan/proof";
import type { Console } from "../console";
import { clusterChecks } from "../cluster";
import { environmentTargets } from "../environment-hosts";
import { findEnvironment } from "../environments";
import { CommandError, EXIT, messageOf } from "../exit";
import { lastPlans, outdated } from "../last-plan";
import { OperationLock } from "../operation-lock";
import { outputsOf } from "../reading";
import { describeHealth, renderChecks } from "../render-outputs";
import type { Report } from "../report";
import type { CommonOptions } from "./options";

/** `tandem status`: measures now, and compares with what the last `up` planned. */
export async function status(
  options: CommonOptions & { readonly backend?: string; readonly deep: boolean },
  console: Console,
): Promise<Report> {
  const wanted = findEnvironment(options.env);
  const holder = OperationLock.holder(wanted.folder);
  if (holder !== undefined) {
    throw new CommandError(
      `${holder} changes this environment now: its state means nothing before that ends`,
      EXIT.busy,
    );
  }
  const targets = environmentTargets(wanted);
  const [{ environment, outputs }, hosts] = await Promise.all([
    outputsOf(options, console),
    Promise.all(targets.map((target) => askHost(target, wanted.name))),
  ]);
  const inCluster = outputs === undefined ? undefined : await clusterChecks(environment, outputs.apiKey, console.say);
  if (outputs !== undefined && inCluster !== undefined) return reportChecks(outputs, inCluster);
  const plans = lastPlans(environment);
  if (outputs === undefined || Object.keys(plans).length === 0) return notUp(environment.name, hosts);
  const { servedModelName } = outputs.plan;
  const service = { stack: environment.name, servedModelName, apiKey: outputs.apiKey, deep: options.deep };
  const checked = await Promise.all(
    hosts.map(async (host) => ({ host, checks: await checkHost(host, plans[host.name], service, console) })),
  );
  const checks = checked.flatMap(({ host, checks }) =>
    checks.map((check) => (targets.length === 1 ? check : { ...check, name: `${host.name}: ${check.name}` })),
  );
  return reportChecks(outputs, checks);
}

function reportChecks(outputs: Outputs, checks: Check[]): Report {
  const health = healthOf(checks);
  const lines = [
    `${outputs.plan.servedModelName}: ${describeHealth(health, process.stdout)}`,
    ...renderChecks(checks, process.stdout),
  ];
  return {
    status: health === "failed" ? EXIT.unhealthy : EXIT.ok,
    document: { status: health, checks, endpoints: outputs.endpoints },
    text: lines.join("\n"),
  };
}

/** A host with the steps that it has of the environment, or why it can't be asked. */
interface AskedHost {
  readonly name: string;
  readonly target: HostTarget;
  readonly steps: readonly StepCheck[];
  readonly silentBecause?: string;
}

async function askHost(target: HostTarget, stack: string): Promise<AskedHost> {
  const name = targetName(target);
  try {
    return { name, target, steps: await readChecks(target, stack) };
  } catch (error) {
    if (target.kind === "local") throw error;
    return { name, target, steps: [], silentBecause: messageOf(error).split("\n")[0] };
  }
}

function notUp(name: string, hosts: readonly AskedHost[]): Report {
  const parts = hosts.filter(({ steps }) => steps.length > 0);
  const left = parts.map(({ name, target, steps }) => {
    const where = target.kind === "local" ? "the host" : name;
    return `; ${where} has parts of it: ${steps.map(({ step }) => step).join(", ")}`;
  });
  const text = `environment ${name} is not up${left.join("")} — fix: tandem up --env ${name}`;
  return { status: EXIT.unhealthy, document: { status: "not up", steps: hosts.flatMap(({ steps }) => steps) }, text };
}

async function checkHost(
  host: AskedHost,
  plan: Plan | undefined,
  service: Omit<Service, "target" | "plan" | "token">,
  console: Console,
): Promise<Check[]> {
  if (host.silentBecause !== undefined) return [{ name: "reachable", status: "fail", detail: host.silentBecause }];
  const applied = host.steps.filter(({ step }) => step !== "proof").map(toCheck);
  if (plan === undefined)
    return [...applied, { name: "proof", status: "fail", detail: "no `up` has come this far here" }];
  const detail = outdated(plan, service.stack);
  if (detail !== undefined) return [...applied, { name: "proof", status: "fail", detail }];
  const token = host.steps.find(({ step }) => step === "proof")?.token ?? "";
  return [...applied, ...(await prove({ ...service, target: host.target, plan, token }, console))];
}

/** A service to prove, and the repair token that its proof was stored with. */
interface Service {
  readonly target: HostTarget;
  readonly stack: string;
  readonly plan: Plan;
  readonly servedModelName: string;
  readonly apiKey: string;
  /** Whether a tiny job is to go through the whole way of training, where the host trains. */
  readonly deep: boolean;
  readonly token: string;
}

/** Proves the service now, by the step that `up` runs. A proof that can't be made is a failed check. */
async function prove(
  { target, stack, plan, servedModelName, apiKey, token, deep }: Service,
  console: Console,
): Promise<Check[]> {
  const request: StepRequest = {
    target,
    stack,
    step: "proof",
    // The host stores the token with the proof: another one would look like drift to the next `up`.
    values: { TANDEM_REPAIR: token },
    document: proofDocument({
      plan,
      servedModelName,
      deep,
    }),
    secrets: { apiKey },
    timeoutSeconds: PROOF_TIMEOUT_SECONDS,
  };
  try {
    const proof = (await applyStep(request, { onProgress: console.say })) as unknown as Proof;
    return compareProof(plan, proof);
  } catch (error) {
    return [{ name: "proof", status: "fail", detail: messageOf(error).split("\n")[0] ?? "" }];
  }
}

function toCheck({ step, holds, reason }: StepCheck): Check {
  return {
    name: step,
    status: holds ? "pass" : "fail",
    detail: holds ? "as it was applied" : (reason ?? "does not hold"),
  };
}
