import type { z } from "zod";
import { settingsSchema } from "./settings-schema";
import { blockShape, settingDoc } from "./setting";

/**
 * Turns the string values of a stack's configuration into raw settings. Knows the schema: text stays text (`model: "123"`),
 * `4` and `true` become a number and a truth value where the setting takes one, `all` and `auto` stay, and objects and lists are read as JSON.
 * What can't be read stays as it is, so that `parseSettings` can say what is wrong with it.
 * @param values by the setting's name, without a namespace; a name may be a path (`split.serving`)
 */
export function coerceConfig(values: Readonly<Record<string, string>>): Record<string, unknown> {
  const raw: Record<string, unknown> = {};
  for (const [name, text] of Object.entries(values)) {
    const path = name.split(".");
    place(raw, path, coerce(text, schemaAt(path)));
  }
  return raw;
}

/** Full names of the settings whose values are secret. */
export const secretSettings: readonly string[] = findSecrets(settingsSchema.shape, []);

function findSecrets(shape: Readonly<Record<string, z.core.$ZodType>>, prefix: readonly string[]): string[] {
  return Object.entries(shape).flatMap(([name, schema]) => {
    const path = [...prefix, name];
    if (settingDoc(schema as z.ZodType)?.secret === true) return [path.join(".")];
    const block = blockShape(schema as z.ZodType);
    return block === undefined ? [] : findSecrets(block, path);
  });
}

function coerce(text: string, schema: z.ZodType | undefined): unknown {
  const value = readJson(text);
  if (schema === undefined || value === undefined) return text;
  // The text itself is a good value: a model named "123", a list of devices "0,1". It wins over what JSON would make of it.
  if (schema.safeParse(text).success) return text;
  return value;
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function schemaAt(path: readonly string[]): z.ZodType | undefined {
  let shape: Readonly<Record<string, z.ZodType>> | undefined = settingsSchema.shape;
  let schema: z.ZodType | undefined;
  for (const key of path) {
    schema = shape?.[key];
    shape = schema === undefined ? undefined : blockShape(schema);
  }
  return schema;
}

function place(raw: Record<string, unknown>, path: readonly string[], value: unknown): void {
  const [key, ...rest] = path;
  if (key === undefined) return;
  if (rest.length === 0) {
    const present = raw[key];
    raw[key] = isRecord(present) && isRecord(value) ? { ...present, ...value } : value;
    return;
  }
  const block = isRecord(raw[key]) ? raw[key] : {};
  raw[key] = block;
  place(block, rest, value);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
