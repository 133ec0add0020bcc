import type { Console } from "../console";
import { findEnvironment } from "../environments";
import { EXIT } from "../exit";
import { planHere, renderForStream, renderMisfit } from "../planning";
import { success, type Report } from "../report";
import { resolveSettings } from "../settings";
import type { SettingOptions } from "./options";

/** `tandem plan`: what would run where, without account, network or Pulumi. */
export async function plan(options: SettingOptions, console: Console): Promise<Report> {
  const environment = findEnvironment(options.env);
  const result = await planHere(resolveSettings(environment, options, console.say), environment.name);
  if (result.plan === undefined) {
    const { verdict, problems, alternatives } = result;
    return { status: EXIT.doesNotFit, document: { verdict, problems, alternatives }, text: renderMisfit(result) };
  }
  return success({ verdict: result.verdict, plan: result.plan }, renderForStream(result.plan, process.stdout));
}
