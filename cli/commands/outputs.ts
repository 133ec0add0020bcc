import { nearestName } from "../../plan/nearest";
import { toShellEnvironment, type Outputs } from "../../stacks/outputs";
import type { Console } from "../console";
import { CommandError, EXIT } from "../exit";
import { outputsOf } from "../reading";
import { renderOutputs } from "../render-outputs";
import { success, type Report } from "../report";
import { hideSecrets, outputAt, outputPaths } from "../stack-outputs";
import type { CommonOptions } from "./options";

export interface OutputsOptions extends CommonOptions {
  readonly envVars: boolean;
  readonly showSecrets: boolean;
  readonly backend?: string;
}

/** `tandem outputs`: what the last `up` produced. A secret is shown where it was asked for: by its name, or for a shell. */
export async function outputs(name: string | undefined, options: OutputsOptions, console: Console): Promise<Report> {
  const { environment, outputs: found } = await outputsOf(options, console);
  if (found === undefined) {
    throw new CommandError(`environment ${environment.name} is not up — fix: tandem up --env ${environment.name}`);
  }
  const shown = options.showSecrets ? found : hideSecrets(found);
  if (name !== undefined) return oneOutput(name, found, options.showSecrets || !options.json ? found : shown);
  if (options.envVars) return success({ variables: toShellEnvironment(found) }, toShellEnvironment(found));
  const key = options.showSecrets ? `\nAPI key: ${found.apiKey}` : "";
  return success({ outputs: shown }, `${renderOutputs(found, environment.name, process.stdout)}${key}`);
}

function oneOutput(name: string, all: Outputs, shown: Outputs): Report {
  const value = outputAt(shown, name);
  if (value === undefined) {
    const near = nearestName(name, outputPaths(all));
    const fix = near === undefined ? "tandem outputs --json lists them" : `tandem outputs ${near}`;
    throw new CommandError(`no output of this name — got ${name} — fix: ${fix}`, EXIT.usage);
  }
  return success({ name, value }, typeof value === "string" ? value : JSON.stringify(value, null, 2));
}
