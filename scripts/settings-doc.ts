import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { z } from "zod";
import { blockShape, settingDoc } from "../plan/setting";
import { settingsSchema } from "../plan/settings-schema";

const FILE = join(__dirname, "..", "docs", "settings.md");

const HEADER = `# Settings

<!-- Made from plan/settings-schema.ts by \`npm run settings-doc\`; edits here are lost. -->

A setting is written in a stack file as \`tandem:<name>: <value>\`, fields of a block below its name:

\`\`\`yaml
config:
  tandem:model: meta-llama/Llama-3.2-1B
  tandem:split: balanced
  tandem:lora:
    maxAdapters: 8
\`\`\`

On the command line it is a flag (\`--tensor-parallel 2\`, \`--lora-max-rank 32\`) or \`--set lora.maxRank=32\`.
Problems are reported all at once, before anything is changed.
`;

/** One Markdown section a group of settings: those of the top level first, then each block. */
function settingsPage(): string {
  const shape: Readonly<Record<string, z.ZodType>> = settingsSchema.shape;
  const blocks = Object.entries(shape).flatMap(([name, schema]) => {
    const fields = settingDoc(schema) === undefined ? blockShape(schema) : undefined;
    return fields === undefined ? [] : [{ name, fields }];
  });
  const sections = blocks.map(({ name, fields }) => `## ${name}\n\n${table(rowsWithBlocks(fields, `${name}.`))}`);
  return [HEADER, table(rows(shape, "")), ...sections].join("\n");
}

function table(rows: readonly string[]): string {
  return ["| setting | what it does | allowed | without it | example |", "|---|---|---|---|---|", ...rows, ""].join(
    "\n",
  );
}

type Shape = Readonly<Record<string, z.ZodType>>;

/** A row for each setting of a block, those of blocks within it last. */
function rowsWithBlocks(shape: Shape, prefix: string): string[] {
  const within = Object.entries(shape).flatMap(([name, schema]) => {
    const fields = settingDoc(schema) === undefined ? blockShape(schema) : undefined;
    return fields === undefined ? [] : rowsWithBlocks(fields, `${prefix}${name}.`);
  });
  return [...rows(shape, prefix), ...within];
}

function rows(shape: Shape, prefix: string): string[] {
  return Object.entries(shape).flatMap(([name, schema]) => {
    const doc = settingDoc(schema);
    if (doc === undefined) return [];
    const text = doc.secret === true ? `${doc.doc} Secret.` : doc.doc;
    const cells = [`\`${prefix}${name}\``, text, doc.allowed, doc.otherwise ?? defaultOf(schema), code(doc.example)];
    return [`| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`];
  });
}

/** What the schema fills in; a setting that must be there has nothing. */
function defaultOf(schema: z.ZodType): string {
  const result = schema.safeParse(undefined);
  if (!result.success) return "must be set";
  return result.data === undefined ? "not set" : code(result.data);
}

function code(value: unknown): string {
  return `\`${typeof value === "string" ? value : JSON.stringify(value)}\``;
}

function main(): void {
  const page = settingsPage();
  if (!process.argv.includes("--check")) {
    writeFileSync(FILE, page);
    return;
  }
  if (readFileSync(FILE, "utf8") === page) return;
  console.error("docs/settings.md is not what the schema says — fix: npm run settings-doc");
  process.exitCode = 1;
}

main();
