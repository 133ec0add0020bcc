import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { release, type } from "node:os";
import { join } from "node:path";
import { findKnownCause, type KnownCause } from "./causes";
import { describeTarget } from "./host";
import { packageRoot } from "./package-root";
import { redactor, redactPatterns } from "./redact";
import type { StepRequest } from "./request";
import { stateFolder } from "./state-folder";
import { targetName } from "./targets";
import { callTarget } from "./transport";

/** A step that failed, as the client knows it. */
export interface Failure {
  readonly request: StepRequest;
  /** What people are told of it. */
  readonly message: string;
  /** Progress lines of the step, oldest first. */
  readonly progress: readonly string[];
  readonly startedAt: Date;
}

export interface Capsule {
  readonly path: string;
  /** A known cause that only the host's logs show. */
  readonly cause?: KnownCause;
}

/** Limits of the collection: a failed run must end, also when its host is half dead. */
const HOST_SECONDS = 11;
const CALL_SECONDS = 14;
const BYTES = 1024 * 1024;
const PROGRESS_LINES = 300;
const KEPT_CAPSULES = 20;
const SUFFIX = ".capsule.md";
/** What happened on the host before the step began does not explain its failure. */
const SLACK_SECONDS = 5;

/**
 * Collects what explains a failure from its host, takes secrets out, and keeps it for the user alone, in `$TANDEM_CAPSULES` or
 * the state folder. A host that does not answer leaves what the client knows.
 * @returns undefined when nothing could be kept; never throws
 */
export async function keepCapsule(failure: Failure): Promise<Capsule | undefined> {
  try {
    const evidence = await askHost(failure.request);
    const text = redacted(failure.request, render(failure, evidence));
    const path = store(failure, bounded(text));
    return { path, cause: findCause(evidence, failure.startedAt) };
  } catch {
    // The failure itself is what the user must see.
    return undefined;
  }
}

async function askHost({ target, stack, step }: StepRequest): Promise<string> {
  const asked = callTarget(target, {
    script: "capsule.sh",
    argv: [],
    environment: { TANDEM_STACK: stack, TANDEM_STEP: step, TANDEM_CAPSULE_SECONDS: String(HOST_SECONDS) },
    timeoutSeconds: CALL_SECONDS,
  }).then(
    ({ code, stdout, stderr }) => (stdout === "" ? silence(`exit ${code}: ${stderr.trim()}`) : stdout),
    (error: unknown) => silence(error instanceof Error ? error.message : String(error)),
  );
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve(silence(`no answer within ${CALL_SECONDS} s`)), CALL_SECONDS * 1000);
  });
  return Promise.race([asked, limit]).finally(() => clearTimeout(timer));
}

function silence(why: string): string {
  return `## The host\nIt could not be asked: ${why}\n`;
}

function render({ request, message, progress, startedAt }: Failure, evidence: string): string {
  const { target, stack, step, values, document, timeoutSeconds } = request;
  const known = { target, stack, step, values, document, timeoutSeconds };
  return [
    `# ${step} failed on ${describeTarget(target)}`,
    "",
    `- began ${startedAt.toISOString()}, failed ${new Date().toISOString()}`,
    `- Tandem ${packageVersion()}, Node ${process.version}, client ${type()} ${release()}`,
    "- secrets were taken out; look once more before you hand this on",
    "",
    "## What was said",
    fenced(message),
    "## Progress",
    fenced(progress.slice(-PROGRESS_LINES).join("\n")),
    "## Request, as the client sent it, without its secrets",
    fenced(JSON.stringify(known, null, 2)),
    ...sections(evidence),
  ].join("\n");
}

/** The host's parts, each under its heading, so that no log can be taken for a heading. */
function sections(evidence: string): string[] {
  return evidence
    .split(/^(?=## [A-Z][^\n]*$)/m)
    .filter((part) => part.trim() !== "")
    .map((part) => {
      const end = part.indexOf("\n");
      return `${part.slice(0, end)}\n${fenced(part.slice(end + 1).trimEnd())}`;
    });
}

function fenced(text: string): string {
  return `~~~~text\n${text.replaceAll("~~~~", "~~~ ~")}\n~~~~\n`;
}

function redacted({ secrets = {} }: StepRequest, text: string): string {
  return redactPatterns(redactor(Object.values(secrets))(text));
}

/** Cut in the middle: a log's beginning and end say more than what is between. */
function bounded(text: string): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= BYTES) return text;
  const half = Math.floor(BYTES / 2) - 100;
  return `${bytes.subarray(0, half).toString()}\n… (${bytes.length - 2 * half} bytes left out) …\n${bytes.subarray(-half).toString()}`;
}

function store({ request, startedAt }: Failure, text: string): string {
  const chosen = process.env["TANDEM_CAPSULES"];
  const folder = chosen !== undefined && chosen !== "" ? chosen : join(stateFolder(), "capsules");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const time = startedAt.toISOString().slice(0, 19).replaceAll(":", "-");
  const path = join(folder, `${time}-${request.step}-${targetName(request.target)}${SUFFIX}`);
  rmSync(path, { force: true });
  writeFileSync(path, text, { mode: 0o600, flag: "wx" });
  const capsules = readdirSync(folder).filter((name) => name.endsWith(SUFFIX));
  for (const old of capsules.sort().slice(0, -KEPT_CAPSULES)) rmSync(join(folder, old), { force: true });
  return path;
}

/** Of the host's parts only those that speak of this failure: the end of the logs, and the kernel since the step began. */
function findCause(evidence: string, startedAt: Date): KnownCause | undefined {
  const part = (title: string) => evidence.split(`## ${title}`)[1]?.split(/^## /m)[0] ?? "";
  const sinceSeconds = (Date.now() - startedAt.getTime()) / 1000 + SLACK_SECONDS;
  const kernel = part("Kernel")
    .split("\n")
    .filter((line) => Number(/^(\d+) s ago: /.exec(line)?.[1] ?? Infinity) <= sinceSeconds);
  const logs = ["Log of the step", "Service"].flatMap((title) => part(title).trimEnd().split("\n").slice(-60));
  return findKnownCause(kernel.join("\n")) ?? findKnownCause(logs.join("\n"));
}

function packageVersion(): string {
  return (JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string }).version;
}
