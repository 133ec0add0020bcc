import type { z } from "zod";
import { nearestAdapterRank } from "./adapter-ranks";
import { nearestName } from "./nearest";
import type { Problem } from "./problem";
import { settingsSchema } from "./settings-schema";
import { blockShape, settingDoc } from "./setting";

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** Turns one complaint of the schema into problems in the user's words. */
export function issueToProblems(issue: Issue, raw: unknown): readonly Problem[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => unknownSetting(issue.path, key));
  }
  const branch = issue.code === "invalid_union" ? unionIssue(issue, raw) : undefined;
  if (branch !== undefined) return issueToProblems({ ...branch, path: [...issue.path, ...branch.path] }, raw);

  const { path, schema } = nearestSetting(issue.path);
  const doc = schema === undefined ? undefined : settingDoc(schema);
  const value = valueAt(raw, issue.path);
  return [
    {
      setting: formatPath(issue.path.length > 0 ? issue.path : path),
      what: whatIsWrong(issue, value),
      ...(value !== undefined && doc?.secret !== true && { value: showValue(value) }),
      ...(doc !== undefined && { allowed: doc.allowed }),
      ...fixFor(formatPath(path), value),
    },
  ];
}

/** In a union of forms, the one that the user meant: an object is judged as an object, not as "none of these". */
function unionIssue(issue: Issue & { code: "invalid_union" }, raw: unknown): Issue | undefined {
  const value = valueAt(raw, issue.path);
  if (typeof value !== "object" || value === null) return undefined;
  const meant = issue.errors.find(
    (branch) =>
      branch.length > 0 && branch.every((inner) => inner.path.length > 0 || inner.code === "unrecognized_keys"),
  );
  return meant?.[0];
}

/** Where what is complained about is written, and the setting that it was to be, where that can be told. */
export function wrongSettings(issue: Issue): readonly { readonly written: Path; readonly meant?: Path }[] {
  if (issue.code !== "unrecognized_keys") {
    const { path } = nearestSetting(issue.path);
    return [{ written: path, meant: path }];
  }
  return issue.keys.map((key) => {
    const near = nearestKnown(issue.path, key);
    const written = [...issue.path, key];
    return near === undefined ? { written } : { written, meant: [...issue.path, ...near.split(".")] };
  });
}

/** The setting whose name is nearest to one that is none, from where it stands. */
function nearestKnown(path: Path, key: string): string | undefined {
  return nearestName(key, namesAt(path)) ?? (path.length === 0 ? nestedName(key) : undefined);
}

function namesAt(path: Path): string[] {
  return Object.keys(shapeAt(path) ?? { serving: 0, training: 0 });
}

function unknownSetting(path: Path, key: string): Problem {
  const known = namesAt(path);
  const near = nearestKnown(path, key);
  return {
    setting: formatPath([...path, key]),
    what: "there is no such setting",
    ...(near === undefined && { allowed: known.join(", ") }),
    fix: near === undefined ? "see docs/settings.md" : `use \`${formatPath([...path, near])}\``,
  };
}

/** A setting of a block that was written at the top level, e.g. `maxModelLen` for `serving.maxModelLen`. */
function nestedName(key: string): string | undefined {
  const blocks = Object.entries(settingsSchema.shape).flatMap(([block, schema]) =>
    Object.keys(blockShape(schema as z.ZodType) ?? {}).map((name) => ({ name, full: `${block}.${name}` })),
  );
  const near = nearestName(
    key,
    blocks.map(({ name }) => name),
  );
  return blocks.find(({ name }) => name === near)?.full;
}

function whatIsWrong(issue: Issue, value: unknown): string {
  switch (issue.code) {
    case "custom":
      return issue.message === "Invalid input" ? "is not allowed" : issue.message;
    case "too_small":
      return `is too small, the least is ${String(issue.minimum)}`;
    case "too_big":
      return `is too large, the most is ${String(issue.maximum)}`;
    case "invalid_type":
      return value === undefined ? "is missing" : "is of the wrong kind";
    case "invalid_union":
    case "invalid_value":
    case "invalid_format":
    case "invalid_key":
    case "invalid_element":
    case "not_multiple_of":
    case "unrecognized_keys":
      return "is not allowed";
  }
}

function fixFor(setting: string, value: unknown): Pick<Problem, "fix"> {
  if (setting === "lora.maxRank" && typeof value === "number") {
    return { fix: `use ${nearestAdapterRank(value)}, the nearest that vLLM has` };
  }
  const choice = typeof value === "string" ? nearestChoice(setting, value) : undefined;
  return choice === undefined ? {} : { fix: `use \`${choice}\`` };
}

/** For a misspelt choice such as `inference_heavy`, the choice that was meant: a word of the help that the schema takes. */
function nearestChoice(setting: string, value: string): string | undefined {
  const { schema } = nearestSetting(setting.split("."));
  if (schema === undefined) return undefined;
  const words = settingDoc(schema)?.allowed.match(/[a-z0-9]+(-[a-z0-9]+)*/g) ?? [];
  const near = nearestName(
    value,
    words.filter((word) => word.length > 2 && schema.safeParse(word).success),
  );
  return near === value ? undefined : near;
}

/** The deepest schema along a path that carries documentation. */
function nearestSetting(path: Path): { path: Path; schema?: z.ZodType } {
  let shape: Readonly<Record<string, z.ZodType>> | undefined = settingsSchema.shape;
  let found: { path: Path; schema?: z.ZodType } = { path };
  for (let depth = 0; depth < path.length && shape !== undefined; depth++) {
    const schema: z.ZodType | undefined = shape[String(path[depth])];
    if (schema === undefined) break;
    if (settingDoc(schema) !== undefined) found = { path: path.slice(0, depth + 1), schema };
    shape = blockShape(schema);
  }
  return found;
}

function shapeAt(path: Path): Readonly<Record<string, z.ZodType>> | undefined {
  let shape: Readonly<Record<string, z.ZodType>> | undefined = settingsSchema.shape;
  for (const key of path) {
    const schema: z.ZodType | undefined = shape?.[String(key)];
    shape = schema === undefined ? undefined : blockShape(schema);
  }
  return shape;
}

function valueAt(raw: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      typeof value === "object" && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined,
    raw,
  );
}

function formatPath(path: Path): string {
  return path
    .map((key, depth) => (typeof key === "number" ? `[${key}]` : `${depth > 0 ? "." : ""}${String(key)}`))
    .join("");
}

/** A key that was given as an argument is refused, and must not be shown while it is. */
const API_KEY = /(--api-key(?:=|"?,"?))[^"]*/g;

/** A value as the user wrote it, cut to one short line. */
function showValue(value: unknown): string {
  const text = (typeof value === "string" ? JSON.stringify(value) : (JSON.stringify(value) ?? String(value))).replace(
    API_KEY,
    "$1…",
  );
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
