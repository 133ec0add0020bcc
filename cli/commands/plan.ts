import { gpuTypes } from "../../plan/gpu-types";
import type { Console } from "../console";
import { findEnvironment } from "../environments";
import { EXIT } from "../exit";
import { planHosts, renderMisfit, renderPlans, resultName } from "../planning";
import { success, type Report } from "../report";
import { resolveSettings } from "../settings";
import type { SettingOptions } from "./options";

/** `tandem plan`: what would run where, without account, network or Pulumi. */
export async function plan(options: SettingOptions, console: Console): Promise<Report> {
  if (options["gpuType"] === "help") return listGpuTypes();
  const environment = findEnvironment(options.env);
  const results = await planHosts(resolveSettings(environment, options, console.say), environment.name);
  const isAlone = results.length === 1;
  const misfits = results.flatMap((entry) =>
    entry.result.plan === undefined ? [{ name: isAlone ? undefined : resultName(entry), result: entry.result }] : [],
  );
  const [first] = misfits;
  if (first !== undefined) {
    const { verdict, problems, alternatives } = first.result;
    const document = { verdict, problems, alternatives, ...(!isAlone && { hosts: misfits }) };
    const text = misfits.map(({ name, result }) => renderMisfit(result, name)).join("\n");
    return { status: EXIT.doesNotFit, document, text };
  }
  const plans = results.flatMap((entry) =>
    entry.result.plan === undefined ? [] : [{ name: resultName(entry) ?? "", plan: entry.result.plan }],
  );
  const worst = plans.some(({ plan }) => plan.verdict === "tight") ? "tight" : "fits";
  const document = { verdict: worst, plan: plans[0]?.plan, ...(!isAlone && { hosts: plans }) };
  return success(document, renderPlans(plans, process.stdout));
}

/** The catalogue, for `--gpu-type help`. */
function listGpuTypes(): Report {
  const lines = gpuTypes.map(({ name, model, memoryGiB }) => `${name.padEnd(14)}${model}, ${memoryGiB.toFixed(1)} GiB`);
  return success({ gpuTypes }, lines.join("\n"));
}
