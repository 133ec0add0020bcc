import { hostname, userInfo } from "node:os";
import { findKnownCause } from "./causes";
import { ABANDON_VARIABLE, describeTarget, keepCache, SWEPT_VARIABLE } from "./host";
import { redactor } from "./redact";
import { rebootHost } from "./ssh-reboot";
import { callTarget, type HostAnswer } from "./transport";
import type { HostTarget, StepRequest } from "./request";

/** A host step that failed, told for people: the root cause, the known cause and cure, where the log is. */
export class StepError extends Error {
  constructor(
    readonly step: string,
    message: string,
    /** Exit status of the work: 124 its limit, 143 a stop, 137 a kill; absent when that is not what ended it. */
    readonly code?: number,
  ) {
    super(message);
    this.name = "StepError";
  }
}

export interface StepOptions {
  /** Called with each progress line, secrets removed. */
  readonly onProgress: (line: string) => void;
}

/** Exit status of an apply that can't go on before the host has restarted. */
const RESTART_STATUS = 60;
const MOST_RESTARTS = 2;

/** Time that the host gets beyond the step's own limit to end the work and say so. */
const GRACE_SECONDS = 30;

/**
 * Applies a step on its host and returns the step's result.
 * The work runs detached there: when this process dies it goes on, and the next call with the same request attaches to it.
 * @throws StepError when the step fails or outlasts its limit
 */
export async function applyStep(request: StepRequest, { onProgress }: StepOptions): Promise<Record<string, unknown>> {
  const answer = await applyWithRestarts(request, onProgress);
  if (answer.code !== 0) throw stepError(request, answer);
  const lastLine = answer.stdout.trim().split("\n").at(-1) ?? "";
  try {
    return JSON.parse(lastLine) as Record<string, unknown>;
  } catch {
    throw new StepError(request.step, `${request.step} failed: it gave no result (its last line was "${lastLine}")`);
  }
}

/**
 * Takes a step back. The lease is the first step of a host, so taking it back ends all that the stack still has there.
 * @throws StepError when something could not be taken back
 */
export async function undoStep(request: StepRequest, { onProgress }: StepOptions): Promise<void> {
  const { target } = request;
  if (target.kind !== "local" && process.env[ABANDON_VARIABLE] === target.name) {
    onProgress(`${target.name} is given up: ${request.step} stays there`);
    return;
  }
  if (target.kind !== "local" && (process.env[SWEPT_VARIABLE] ?? "").split(" ").includes(target.name)) {
    onProgress(`${request.step} was taken back on ${target.name}`);
    return;
  }
  if (await isGone(target)) {
    onProgress(`${request.step} went with ${describeTarget(target)}`);
    return;
  }
  const argv = request.step === "lease" ? ["sweep"] : ["undo", request.step];
  const answer = await callStep(request, argv, onProgress);
  if (answer.code !== 0) throw stepError(request, answer);
}

/** Whether the target is a rented machine that its owner, its timer or the cloud has ended. */
async function isGone(target: HostTarget): Promise<boolean> {
  if (target.kind !== "ssh" || target.instance === undefined) return false;
  const { instanceIsGone } = await import("../cloud/machine-gone.js");
  return instanceIsGone(target.instance);
}

/** A step that can't go on before its host has restarted says so by its exit status; after the restart it is applied again. */
async function applyWithRestarts(request: StepRequest, onProgress: (line: string) => void): Promise<HostAnswer> {
  const { target, step, stack } = request;
  for (let restarts = 0; ; restarts++) {
    const answer = await callStep(request, ["apply", step], onProgress);
    if (answer.code !== RESTART_STATUS) return answer;
    const where = describeTarget(target);
    if (target.kind === "local") {
      throw new StepError(step, `${step} needs a restart of ${where} — fix: restart it, then run tandem up again`);
    }
    if (restarts === MOST_RESTARTS) {
      throw new StepError(
        step,
        `${step} asks for another restart of ${where} after ${MOST_RESTARTS} — fix: tandem logs ${step}`,
      );
    }
    onProgress(`${step} needs a restart of ${where}: restarting it`);
    await rebootHost(target, stack, onProgress);
  }
}

function callStep(request: StepRequest, argv: string[], onProgress: (line: string) => void): Promise<HostAnswer> {
  const redact = redactor(Object.values(request.secrets ?? {}));
  // Who asks is told to whom the host is refused meanwhile; it is no part of the step's input, or a colleague's run would change it.
  const client = `${userInfo().username}@${hostname()}`;
  const values = { ...request.values, TANDEM_CLIENT: client, TANDEM_TIMEOUT_SECONDS: String(request.timeoutSeconds) };
  return callTarget(request.target, {
    script: "work.sh",
    argv,
    environment: { TANDEM_STACK: request.stack, ...keepCache() },
    stdin: [values, request.document ?? {}, request.secrets ?? {}].map((part) => JSON.stringify(part) + "\n").join(""),
    onLine: (line) => onProgress(redact(line)),
    timeoutSeconds: request.timeoutSeconds + GRACE_SECONDS,
  }).then((answer) => ({ ...answer, stderr: redact(answer.stderr) }));
}

/** The lines of a failure, in the order in which a reader wants them. */
function stepError(request: StepRequest, answer: HostAnswer): StepError {
  const lines = answer.stderr.split("\n").filter((line) => line.trim() !== "");
  const rootCause = lines.findLast((line) => line.startsWith("root cause: "))?.slice("root cause: ".length);
  const log = lines.findLast((line) => line.startsWith("log: "))?.slice("log: ".length);
  const own = lines.filter((line) => !/^(root cause|log): /.test(line));
  const summary = rootCause ?? own.at(-1) ?? `exit ${answer.code}`;
  const known = findKnownCause(rootCause ?? own.slice(-20).join("\n"));
  const limit = answer.code === 124 ? ` within its limit of ${request.timeoutSeconds} s` : "";
  const message = [`${request.step} failed on ${describeTarget(request.target)}${limit}: ${summary}`];
  if (known !== undefined) message.push(`  cause: ${known.cause}`, `  cure:  ${known.cure}`);
  message.push(`  log:   ${log ?? `tandem logs ${request.step}`}`);
  return new StepError(request.step, message.join("\n"), answer.code);
}
