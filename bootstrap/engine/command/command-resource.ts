import { randomBytes } from "node:crypto";
import { collectArchive, collectAssets } from "./assets";
import { execute } from "./execute";
import { INPUT_NAMES, toInputs } from "./inputs";
import { isSame, reveal, UNKNOWN, type Properties, type Value } from "./values";

/** What the command printed and found: outputs that are no inputs. */
const RESULT_NAMES = ["stdout", "stderr", "assets", "archive"] as const;

export interface Run {
  readonly onLine: (line: string) => void;
  readonly signal: AbortSignal;
}

/** Name of the resource and eight random hexadecimal digits, as the real provider makes it. */
export function newId(urn: string): string {
  return `${urn.slice(urn.lastIndexOf("::") + 2)}${randomBytes(4).toString("hex")}`;
}

/** The state after `create`; in a preview what it printed is unknown. */
export async function create(inputs: Properties, run: Run | "preview"): Promise<Properties> {
  if (run === "preview") return { ...inputs, stdout: UNKNOWN, stderr: UNKNOWN };
  return { ...inputs, ...(await runCommand(toInputs(inputs).create, inputs, {}, run)) };
}

/** The state after an update: runs `update`, else `create` again, else nothing. */
export async function update(state: Properties, inputs: Properties, run: Run | "preview"): Promise<Properties> {
  const results = pick(state, RESULT_NAMES);
  if (run === "preview") {
    const isChanged = INPUT_NAMES.some((name) => !isSame(state[name], inputs[name]));
    const unknown: Properties = Object.fromEntries(Object.keys(results).map((name) => [name, UNKNOWN]));
    return { ...inputs, ...(isChanged ? unknown : results) };
  }
  const { update: text, create: fallback } = toInputs(inputs);
  return { ...inputs, ...(await runCommand(text ?? fallback, inputs, results, run)) };
}

export async function remove(state: Properties, run: Run): Promise<void> {
  await runCommand(toInputs(state).delete, state, pick(state, RESULT_NAMES), run);
}

async function runCommand(
  command: string | undefined,
  properties: Properties,
  before: Properties,
  run: Run,
): Promise<Properties> {
  const previous = { stdout: text(before["stdout"]), stderr: text(before["stderr"]) };
  if (command === undefined) return { ...before, ...previous };
  const inputs = toInputs(properties);
  const output = await execute({ command, inputs, previous, ...run });
  const folder = inputs.dir ?? process.cwd();
  return {
    ...before,
    ...output,
    ...(inputs.assetPaths === undefined ? {} : { assets: collectAssets(folder, inputs.assetPaths) }),
    ...(inputs.archivePaths === undefined ? {} : { archive: collectArchive(folder, inputs.archivePaths) }),
  };
}

function text(value: Value | undefined): string {
  const revealed = reveal(value);
  return typeof revealed === "string" ? revealed : "";
}

function pick(properties: Properties, names: readonly string[]): Properties {
  return Object.fromEntries(Object.entries(properties).filter(([name]) => names.includes(name)));
}
