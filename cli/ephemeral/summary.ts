import { writeFileSync } from "node:fs";

/** One part of a run. */
export interface Phase {
  readonly name: "up" | "command" | "destroy";
  readonly status: "passed" | "failed" | "skipped";
  readonly seconds: number;
  /** Why it failed or was skipped, in one or more lines. */
  readonly detail?: string;
}

export interface Summary {
  /** Version of this document. */
  readonly version: 1;
  readonly name: string;
  readonly command: readonly string[];
  readonly exitStatus: number;
  readonly startedAt: string;
  readonly phases: readonly Phase[];
  /** False when something of the environment may be left. */
  readonly isGone: boolean;
}

export function writeJson(file: string, summary: Summary): void {
  writeFileSync(file, `${JSON.stringify(summary, null, 2)}\n`);
}

/** JUnit's format, as continuous integration reads it: a test case for each part. */
export function writeJunit(file: string, { name, phases, startedAt }: Summary): void {
  const count = (status: Phase["status"]) => phases.filter((phase) => phase.status === status).length;
  const total = phases.reduce((sum, { seconds }) => sum + seconds, 0);
  const cases = phases.map(({ name: part, status, seconds, detail = "" }) => {
    const head = `    <testcase classname="tandem ephemeral" name="${part}" time="${seconds.toFixed(1)}"`;
    if (status === "passed") return `${head}/>`;
    if (status === "skipped") return `${head}><skipped message="${escape(detail)}"/></testcase>`;
    const [first = ""] = detail.split("\n");
    return `${head}><failure message="${escape(first)}">${escape(detail)}</failure></testcase>`;
  });
  const counts = `tests="${phases.length}" failures="${count("failed")}" skipped="${count("skipped")}"`;
  const text = [
    '<?xml version="1.0" encoding="UTF-8"?>',
    "<testsuites>",
    `  <testsuite name="${escape(name)}" ${counts} time="${total.toFixed(1)}" timestamp="${startedAt}">`,
    ...cases,
    "  </testsuite>",
    "</testsuites>",
  ];
  writeFileSync(file, `${text.join("\n")}\n`);
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "\n": "&#10;",
};

function escape(text: string): string {
  // What XML has no way to write, e.g. the colours of a terminal.
  // eslint-disable-next-line no-control-regex -- These characters are what it is about.
  const writable = text.replaceAll(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, "");
  return writable.replaceAll(/[&<>"\n]/g, (character) => ENTITIES[character] ?? character);
}
