import { isList, isPlainObject, reveal, UNKNOWN, type Properties, type Value } from "./values";

type Shape = "text" | "texts" | "textByName" | "list" | "truth" | "logging";

/** The inputs of `command:local:Command` 1.2.1. */
const INPUTS: Readonly<Record<string, Shape>> = {
  create: "text",
  update: "text",
  delete: "text",
  dir: "text",
  stdin: "text",
  environment: "textByName",
  interpreter: "texts",
  assetPaths: "texts",
  archivePaths: "texts",
  addPreviousOutputInEnv: "truth",
  logging: "logging",
  triggers: "list",
};
export const INPUT_NAMES = Object.keys(INPUTS);
/** The one input whose change replaces the resource instead of updating it. */
export const REPLACING_INPUT = "triggers";

const LOGGING = ["stdout", "stderr", "stdoutAndStderr", "none"] as const;

/** A command's inputs as the executor needs them, secrets revealed. */
export interface CommandInputs {
  readonly create?: string;
  readonly update?: string;
  readonly delete?: string;
  readonly dir?: string;
  readonly stdin?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly interpreter?: readonly string[];
  readonly assetPaths?: readonly string[];
  readonly archivePaths?: readonly string[];
  readonly addPreviousOutputInEnv?: boolean;
  readonly logging?: (typeof LOGGING)[number];
}

/** Inputs or outputs that passed `checkInputs` before, with secrets revealed. */
export function toInputs(properties: Properties): CommandInputs {
  const known = Object.entries(properties).filter(([name, value]) => name in INPUTS && value !== null);
  return reveal(Object.fromEntries(known)) as CommandInputs;
}

export interface InputFailure {
  readonly property: string;
  readonly reason: string;
}

/** What is wrong with the inputs; values that are not known yet pass. */
export function checkInputs(properties: Properties): InputFailure[] {
  return Object.entries(INPUTS).flatMap(([property, shape]) => {
    const value = reveal(properties[property]);
    if (value === undefined || value === null || value === UNKNOWN) return [];
    const allowed = violatedShape(shape, value);
    return allowed === undefined ? [] : [{ property, reason: `got ${JSON.stringify(value)} — allowed: ${allowed}` }];
  });
}

/** What is allowed, when `value` is not that. */
function violatedShape(shape: Shape, value: Value): string | undefined {
  switch (shape) {
    case "text":
      return typeof value === "string" ? undefined : "a string";
    case "texts":
      return isList(value) && value.every(isText) ? undefined : "a list of strings";
    case "textByName":
      return isPlainObject(value) && Object.values(value).every(isText) ? undefined : "strings by name";
    case "list":
      return isList(value) ? undefined : "a list";
    case "truth":
      return typeof value === "boolean" ? undefined : "true or false";
    case "logging":
      return LOGGING.some((name) => name === value) ? undefined : LOGGING.join(", ");
  }
}

function isText(value: Value): boolean {
  return typeof value === "string";
}
