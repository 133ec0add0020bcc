import { z } from "zod";

/** What is said about a setting beside its type: the reference page and every error message come from here. */
export interface SettingDoc {
  /** What it does, and what happens without it. */
  readonly doc: string;
  /** The values that are allowed, in the user's words. */
  readonly allowed: string;
  /** A value as it is written in a stack file. */
  readonly example: unknown;
  /** What happens when it is left out, where the schema's default does not say it. */
  readonly otherwise?: string;
  /** True for a value that must be encrypted and never shown. */
  readonly secret?: boolean;
}

const docs = z.registry<SettingDoc>();

/** Attaches the documentation to a setting's schema. */
export function setting<Schema extends z.ZodType>(schema: Schema, doc: SettingDoc): Schema {
  docs.add(schema, doc);
  return schema;
}

/** The documentation attached to a schema; undefined for a schema that is no setting. */
export function settingDoc(schema: z.ZodType): SettingDoc | undefined {
  return docs.get(schema);
}

/** The object schema inside a block with a default, or undefined for a plain value. */
export function blockShape(schema: z.ZodType): Readonly<Record<string, z.ZodType>> | undefined {
  if (schema instanceof z.ZodObject) return schema.shape;
  if (schema instanceof z.ZodPrefault || schema instanceof z.ZodDefault || schema instanceof z.ZodOptional) {
    return blockShape(schema.unwrap() as z.ZodType);
  }
  return undefined;
}
