import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import type { StepName } from "../../bootstrap/runner/request";
import { ELSEWHERE } from "./faults-elsewhere";

const root = path.resolve(__dirname, "../..");
export const FAULTS_PAGE = path.join(root, "docs/faults.md");
const BEGIN = "<!-- rows: made by the tests -->";
const END = "<!-- end of rows -->";
const LONGEST_MESSAGE = 480;

/** The steps that are caught in their middle. */
export type FaultStep = Extract<StepName, "lease" | "driver" | "runtime" | "weights" | "serving" | "gateway" | "proof">;

/** One fault at one moment, and the test file that makes it happen. */
export interface FaultCase {
  readonly fault: string;
  /** A step, or what was going on. */
  readonly step: string;
  readonly file: string;
}

export type End = "up converges" | "destroy leaves a clean host" | "up converges, destroy leaves a clean host";

/** What became of a case. */
export interface FaultRow extends FaultCase {
  /** First line of what the user reads. */
  readonly message: string;
  /** From the fault until the host was right again. */
  readonly seconds: number;
  readonly ended: End | "not ended well";
  /** Why a row is red; absent when it is not. */
  readonly wrong?: string;
}

const STEPS_FILE = "test/hosts/faults-steps.slow.test.ts";
const DRIVER_FILE = "test/hosts/faults-driver.slow.test.ts";
const CLIENT_FILE = "test/hosts/faults-client.slow.test.ts";

/** Faults in the middle of a step: each hits each step. */
export const MIDDLE_FAULTS = [
  "link cut for 20 s",
  "link cut for ever",
  "power loss",
  "sshd restarted",
  "client killed, then destroy",
] as const;
export type MiddleFault = (typeof MIDDLE_FAULTS)[number];
const STEPS = ["lease", "runtime", "weights", "serving", "proof"] as const;

const middleCases = MIDDLE_FAULTS.flatMap((fault) => [
  ...STEPS.map((step) => ({ fault, step, file: STEPS_FILE })),
  { fault, step: "driver", file: DRIVER_FILE },
]);
const stepCases = [
  ["disk full in the middle", "runtime"],
  ["disk full in the middle", "weights"],
  ["clock an hour ahead", "all steps"],
  ["clock an hour behind", "all steps"],
  ["comes back with another address", "runtime"],
  ["client killed", "gateway"],
  ["power loss", "gateway"],
  ["port taken", "gateway"],
  ["configuration changed by hand", "gateway"],
  ["unit changed by hand", "gateway"],
].map(([fault = "", step = ""]) => ({ fault, step, file: STEPS_FILE }));
const driverCases = [
  ["unsupported distribution", "driver"],
  ["reboot that never comes back", "driver"],
].map(([fault = "", step = ""]) => ({ fault, step, file: DRIVER_FILE }));
const clientCases = [
  ["unreachable", "up"],
  ["refused", "up"],
  ["wrong key", "up"],
  ["changed host key", "up"],
  ["no sudo", "up"],
  ["port taken", "up"],
  ["two stacks on one host", "up"],
  ["comes back with another address", "up"],
  ["comes back with another address", "destroy"],
  ...STEPS.map((step) => ["client and engine killed", step]),
  ["client and engine killed", "destroy"],
].map(([fault = "", step = ""]) => ({ fault, step, file: CLIENT_FILE }));

/** Every case that these tests make happen themselves. */
export const CASES: readonly FaultCase[] = [...middleCases, ...stepCases, ...driverCases, ...clientCases];

export function casesOf(file: string): FaultCase[] {
  return CASES.filter((one) => file.endsWith(one.file));
}

export function keyOf({ fault, step }: Pick<FaultCase, "fault" | "step">): string {
  return `${fault} / ${step}`;
}

/** The rows of the page, as cells: fault, moment, message, end, seconds, result, file. */
export function rowsOfPage(): string[][] {
  const text = existsSync(FAULTS_PAGE) ? readFileSync(FAULTS_PAGE, "utf8") : "";
  const block = text.slice(text.indexOf(BEGIN) + BEGIN.length, text.indexOf(END));
  return block
    .split("\n")
    .filter((line) => line.startsWith("| ") && !line.startsWith("| fault "))
    .map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim()))
    .map((cells) => cells.slice(1, -1));
}

/** Keeps what a run found out, and puts it into the page where `TANDEM_FAULTS_TABLE` asks for it. */
export function keepRows(file: string, rows: readonly FaultRow[]): void {
  const folder = path.join(root, ".cache/faults");
  mkdirSync(folder, { recursive: true });
  const name = path.basename(file, ".slow.test.ts");
  writeFileSync(path.join(folder, `${name}.json`), `${JSON.stringify(rows, null, 2)}\n`);
  if (process.env["TANDEM_FAULTS_TABLE"] === undefined) return;
  const files = [file, ...ELSEWHERE.map((one) => one.file)];
  const others = rowsOfPage().filter((cells) => !files.some((name) => name.endsWith(cells[6] ?? "-")));
  const quoted = ELSEWHERE.map((one) => [one.fault, one.step, one.message, one.ended, "–", "ok", one.file]);
  const order = CASES.map(keyOf);
  const rank = (cells: readonly string[]) => {
    const place = order.indexOf(keyOfCells(cells));
    return place < 0 ? order.length : place;
  };
  const all = [...others, ...rows.map(cellsOf), ...quoted].sort((a, b) => rank(a) - rank(b));
  const table = [
    "| fault | in | what is said | how it ends | seconds | | test |",
    "|---|---|---|---|---|---|---|",
    ...all.map((cells) => `| ${cells.join(" | ")} |`),
  ].join("\n");
  const target = path.resolve(root, process.env["TANDEM_FAULTS_TABLE"]);
  const text = readFileSync(target, "utf8").replace(
    /last on \S+;/,
    `last on ${new Date().toISOString().slice(0, 10)};`,
  );
  const before = text.slice(0, text.indexOf(BEGIN) + BEGIN.length);
  const after = text.slice(text.indexOf(END));
  writeFileSync(target, `${before}\n${table}\n${after}`);
}

export function keyOfCells([fault = "", step = ""]: readonly string[]): string {
  return keyOf({ fault, step });
}

function cellsOf(row: FaultRow): string[] {
  const message = row.message
    .replaceAll(/\b10\.\d+\.\d+\.\d+\b/g, "10.0.0.1")
    .replaceAll(/\/(tmp|run)\/[^\s,]+/g, "…")
    .replaceAll(/\b(SHA256:|AAAA)[\w+/=]+/g, "$1…")
    .replaceAll(/\bsince \S+Z, by [^\s@]+@\S+/g, "since …, by USER@CLIENT")
    .replaceAll("|", "\\|");
  return [
    row.fault,
    row.step,
    message.length > LONGEST_MESSAGE ? `${message.slice(0, LONGEST_MESSAGE)}…` : message,
    row.ended,
    row.seconds.toFixed(0),
    row.wrong === undefined ? "ok" : "RED",
    row.file,
  ];
}

/** @throws Error when a failure is told badly: without the host's name, without a way out, with a stack trace or a secret */
export function requireClear(message: string, hostName: string, secret: string): void {
  const wrong = [
    ...(message.includes(hostName) ? [] : [`does not name the host ${hostName}`]),
    ...(/fix:|cure:/.test(message) ? [] : ["does not say what to do"]),
    ...requireClean(message, secret),
  ];
  if (wrong.length > 0) throw new Error(`the message ${wrong.join(", ")}:\n${message}`);
}

/** What no output may hold. */
export function requireClean(text: string, secret: string): string[] {
  return [
    ...(/\n\s+at .+:\d+:\d+/.test(text) ? ["holds a stack trace"] : []),
    ...(text.includes(secret) ? ["holds a secret"] : []),
  ];
}
