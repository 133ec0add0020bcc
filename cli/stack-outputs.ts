import type { OutputMap } from "@pulumi/pulumi/automation";
import { outputsSchema, type Outputs } from "../stacks/outputs";

/** What stands for a secret where it was not asked for. */
export const HIDDEN = "[secret]";

/** The outputs of a stack, checked; undefined when it has none, before the first `up` came to its end. */
export function readOutputs(outputs: OutputMap): Outputs | undefined {
  if (Object.keys(outputs).length === 0) return undefined;
  return outputsSchema.parse(
    Object.fromEntries(Object.entries(outputs).map(([name, { value }]) => [name, value as unknown])),
  );
}

/** The outputs as they may be shown. */
export function hideSecrets(outputs: Outputs): Outputs {
  const apiKeys = Object.fromEntries(Object.keys(outputs.apiKeys).map((name) => [name, HIDDEN]));
  return { ...outputs, apiKey: HIDDEN, apiKeys };
}

/** One value by its path, e.g. `endpoints.chat`; undefined when there is none. */
export function outputAt(outputs: Outputs, path: string): unknown {
  return path.split(".").reduce<unknown>((value, part) => {
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[part] : undefined;
  }, outputs);
}

/** All paths that `outputAt` knows, for suggestions; lists count as one value. */
export function outputPaths(value: unknown, prefix = ""): string[] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [prefix];
  const below = Object.entries(value).flatMap(([name, field]) =>
    outputPaths(field, prefix === "" ? name : `${prefix}.${name}`),
  );
  return prefix === "" ? below : [prefix, ...below];
}
