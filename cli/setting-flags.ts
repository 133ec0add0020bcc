import { readFileSync } from "node:fs";
import { Option } from "commander";
import { parse } from "yaml";
import type { z } from "zod";
import { nearestName } from "../plan/nearest";
import type { Problem } from "../plan/problem";
import { blockShape, settingDoc, type SettingDoc } from "../plan/setting";
import { settingsSchema } from "../plan/settings-schema";
import { CommandError, EXIT } from "./exit";

/** One setting as the command line sees it. */
export interface SettingFlag {
  /** e.g. `["lora", "maxRank"]`. */
  readonly path: readonly string[];
  readonly schema: z.ZodType;
  readonly doc: SettingDoc;
  /** e.g. `--lora-max-rank`. */
  readonly flag: string;
}

/** A setting that was given on the command line. */
export interface SettingChange {
  readonly path: readonly string[];
  readonly value: unknown;
  /** Where it came from, e.g. `--tensor-parallel` or `--set`. */
  readonly source: string;
  readonly isSecret: boolean;
}

/** The settings that `--help` lists; every other one has its flag too. */
const COMMON = new Set("model target gpus gpuType tensorParallel replicas split training.backend port ttl".split(" "));

/** Flags that are not made of the setting's path. */
const OWN_FLAGS: Readonly<Record<string, string>> = { "ec2.waitForCapacity": "--wait-for-capacity" };

/** Every setting of the schema with its flag. */
export const SETTING_FLAGS: readonly SettingFlag[] = flagsOf(settingsSchema.shape, []);

function flagsOf(shape: Readonly<Record<string, z.ZodType>>, prefix: readonly string[]): SettingFlag[] {
  return Object.entries(shape).flatMap(([name, schema]): SettingFlag[] => {
    const path = [...prefix, name];
    const doc = settingDoc(schema);
    const flag = OWN_FLAGS[path.join(".")] ?? `--${path.map(toKebabCase).join("-")}`;
    if (doc !== undefined) return [{ path, schema, doc, flag }];
    const block = blockShape(schema);
    return block === undefined ? [] : flagsOf(block, path);
  });
}

/** The flags of all settings as commander's options; the less common ones are hidden from `--help`. */
export function settingOptions(): Option[] {
  return SETTING_FLAGS.map(({ path, flag, doc, schema }) => {
    const isBoolean = accepts(schema, true) && !accepts(schema, 1);
    const option = new Option(
      `${flag} ${isBoolean ? "[value]" : "<value>"}`,
      `${firstSentence(doc.doc)} (${doc.allowed})`,
    );
    return COMMON.has(path.join(".")) ? option : option.hideHelp();
  });
}

/**
 * The settings that were given as flags and as `--set path=value`, in that order, and what is wrong with the `--set`s.
 * @param options commander's, by attribute name
 */
export function settingChanges(
  options: Readonly<Record<string, unknown>>,
  sets: readonly string[],
): { readonly changes: readonly SettingChange[]; readonly problems: readonly Problem[] } {
  const fromFlags = SETTING_FLAGS.flatMap((known): SettingChange[] => {
    const given = options[new Option(known.flag).attributeName()];
    if (given === undefined) return [];
    // A boolean flag without a value means true.
    const value = typeof given === "string" ? toValueOf(known, given) : given;
    return [{ path: known.path, value, source: known.flag, isSecret: known.doc.secret === true }];
  });
  const problems: Problem[] = [];
  const fromSets = sets.flatMap((text): SettingChange[] => {
    const change = parseSet(text);
    if ("path" in change) return [change];
    problems.push(change);
    return [];
  });
  return { changes: [...fromFlags, ...fromSets], problems };
}

function parseSet(text: string): SettingChange | Problem {
  const equals = text.indexOf("=");
  if (equals < 1) {
    return {
      setting: "--set",
      what: "needs a setting and a value",
      value: text,
      allowed: "path=value",
      fix: "--set split.serving=0.4",
    };
  }
  const path = text.slice(0, equals).split(".");
  const name = path.join(".");
  const known = findSetting(path);
  if (known === undefined) {
    const names = SETTING_FLAGS.map((flag) => flag.path.join("."));
    const near = nearestName(name, names) ?? nearestName(path[0] ?? "", names);
    return {
      setting: name,
      what: "unknown setting",
      fix: near === undefined ? "docs/settings.md lists them all" : `did you mean ${near}?`,
    };
  }
  const isWhole = known.path.length === path.length;
  const value = isWhole ? toValueOf(known, text.slice(equals + 1)) : parseText(text.slice(equals + 1));
  return { path, value, source: "--set", isSecret: known.doc.secret === true };
}

/** The setting with this path, or the one that it is a field of (`split.serving`, `serving.extraEnv.NAME`). */
function findSetting(path: readonly string[]): SettingFlag | undefined {
  return SETTING_FLAGS.find((known) => known.path.every((part, index) => part === path[index]));
}

/**
 * What a flag's text means. Other users see a command line: a secret may be given as `@FILE`, `@/dev/stdin` to pipe it.
 */
function toValueOf({ schema, doc, flag }: SettingFlag, text: string): unknown {
  const isFile = doc.secret === true && text.startsWith("@");
  return toValue(isFile ? readSecret(text.slice(1), flag) : text, schema);
}

function readSecret(path: string, flag: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new CommandError(`${flag}: the file can't be read (${reason}) — got @${path}`, EXIT.usage);
  }
}

/** Text where the setting takes text, else the number, truth value or list that the text writes. */
function toValue(text: string, schema: z.ZodType): unknown {
  return accepts(schema, text) ? text : parseText(text);
}

function parseText(text: string): unknown {
  try {
    return (parse(text) as unknown) ?? text;
  } catch {
    return text;
  }
}

function accepts(schema: z.ZodType, value: unknown): boolean {
  return schema.safeParse(value).success;
}

/** The changes as raw settings, later ones winning. */
export function toRawSettings(changes: readonly SettingChange[]): Record<string, unknown> {
  const raw: Record<string, unknown> = {};
  for (const { path, value } of changes) {
    let block = raw;
    for (const part of path.slice(0, -1)) block = block[part] = isRecord(block[part]) ? block[part] : {};
    const last = path.at(-1);
    if (last !== undefined) block[last] = value;
  }
  return raw;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function toKebabCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function firstSentence(text: string): string {
  return text.split(". ")[0]?.replace(/\.$/, "") ?? text;
}
