import { readChecks } from "../../bootstrap/runner/host";
import { proveNow, type ProofRequestArgs } from "../../bootstrap/runner/proof";
import type { StepCheck } from "../../bootstrap/runner/request";
import type { Check } from "../../plan/compare";
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
  const args = { target: HOST, stack: environment.name, plan, servedModelName, apiKey: outputs.apiKey };
  const checks = [...steps.filter(({ step }) => step !== "proof").map(toCheck), ...(await prove(args, console))];
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

/** Proves the service now; a proof that can't even be made is a failed check, not the end of the command. */
async function prove(args: ProofRequestArgs, console: Console): Promise<readonly Check[]> {
  try {
    return (await proveNow(args, { onProgress: console.say })).checks;
  } catch (error) {
    return [{ name: "proof", status: "fail", detail: messageOf(error) }];
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
