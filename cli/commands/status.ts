import { readChecks } from "../../bootstrap/runner/host";
import { PROOF_TIMEOUT_SECONDS, proofDocument } from "../../bootstrap/runner/proof";
import type { StepCheck, StepRequest } from "../../bootstrap/runner/request";
import { applyStep } from "../../bootstrap/runner/step";
import { compareProof, type Check } from "../../plan/compare";
import type { Plan } from "../../plan/plan";
import type { Proof } from "../../plan/proof";
import type { Console } from "../console";
import { findEnvironment } from "../environments";
import { CommandError, EXIT, messageOf } from "../exit";
import { lastPlan } from "../last-plan";
import { OperationLock } from "../operation-lock";
import { outputsOf } from "../reading";
import { describeHealth, renderChecks } from "../render-outputs";
import type { Report } from "../report";
import type { CommonOptions } from "./options";

const HOST = { kind: "local" } as const;

/** `tandem status`: measures now, and compares with what the last `up` planned. */
export async function status(
  options: CommonOptions & { readonly backend?: string },
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
  const [{ environment, outputs }, steps] = await Promise.all([
    outputsOf(options, console),
    readChecks(HOST, wanted.name),
  ]);
  const plan = lastPlan(environment);
  if (outputs === undefined || plan === undefined) {
    const left = steps.length === 0 ? "" : `; the host has parts of it: ${steps.map(({ step }) => step).join(", ")}`;
    const text = `environment ${environment.name} is not up${left} — fix: tandem up --env ${environment.name}`;
    return { status: EXIT.unhealthy, document: { status: "not up", steps }, text };
  }
  const { servedModelName } = outputs.plan;
  const token = steps.find(({ step }) => step === "proof")?.token ?? "";
  const service = { stack: environment.name, plan, servedModelName, apiKey: outputs.apiKey, token };
  const checks = [...steps.filter(({ step }) => step !== "proof").map(toCheck), ...(await prove(service, console))];
  const health = worst(checks);
  const lines = [
    `${servedModelName}: ${describeHealth(health, process.stdout)}`,
    ...renderChecks(checks, process.stdout),
  ];
  return {
    status: health === "failed" ? EXIT.unhealthy : EXIT.ok,
    document: { status: health, checks, endpoints: outputs.endpoints },
    text: lines.join("\n"),
  };
}

/** A service to prove, and the repair token that its proof was stored with. */
interface Service {
  readonly stack: string;
  readonly plan: Plan;
  readonly servedModelName: string;
  readonly apiKey: string;
  readonly token: string;
}

/** Proves the service now, by the step that `up` runs. A proof that can't be made is a failed check. */
async function prove({ stack, plan, servedModelName, apiKey, token }: Service, console: Console): Promise<Check[]> {
  const request: StepRequest = {
    target: HOST,
    stack,
    step: "proof",
    // The host stores the token with the proof: another one would look like drift to the next `up`.
    values: { TANDEM_REPAIR: token },
    document: proofDocument({ plan, servedModelName }),
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

function worst(checks: readonly Check[]): "healthy" | "degraded" | "failed" {
  if (checks.some(({ status }) => status === "fail")) return "failed";
  return checks.some(({ status }) => status === "warn") ? "degraded" : "healthy";
}
