import { existsSync } from "node:fs";
import type { Outputs } from "../stacks/outputs";
import { findBackend, stackExists } from "./backend";
import type { Console } from "./console";
import { explainEngineError, openEngine, openStack } from "./engine";
import { findEnvironment, type Environment } from "./environments";
import { openHome } from "./home";
import { readOutputs } from "./stack-outputs";

/**
 * The outputs of an environment's stack with its secrets; undefined when nothing is up. Changes nothing and takes no lock.
 */
export async function outputsOf(
  options: { readonly env: string; readonly backend?: string },
  console: Console,
): Promise<{ environment: Environment; outputs: Outputs | undefined }> {
  const environment = findEnvironment(options.env);
  const backend = findBackend(environment, options.backend);
  if (!existsSync(environment.folder) || stackExists(backend, environment.name) === false) {
    return { environment, outputs: undefined };
  }
  const engine = await openEngine({ home: openHome(), environment, backend, say: console.say });
  const stack = await openStack(engine, undefined, false);
  if (stack === undefined) return { environment, outputs: undefined };
  try {
    return { environment, outputs: readOutputs(await stack.outputs()) };
  } catch (error) {
    throw explainEngineError(engine, error);
  }
}
