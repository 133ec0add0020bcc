import { callTarget, type HostAnswer } from "./transport";
import type { HostTarget } from "./request";

/** Name of a host that is given up: a step that is taken back there succeeds without asking it. Set by `tandem destroy --abandon`. */
export const ABANDON_VARIABLE = "TANDEM_ABANDON";

/**
 * Names of hosts, with blanks between, on which everything was taken back already: a step that is taken back there succeeds without asking
 * it, for the state may hold an address that the host no longer has. Set by `tandem destroy`.
 */
export const SWEPT_VARIABLE = "TANDEM_SWEPT";

/** Ends all detached work of a stack on a host, after Ctrl-C. Services keep running. */
export async function stopWork(target: HostTarget, stack: string, onLine?: (line: string) => void): Promise<void> {
  await expectSuccess(target, stack, "stop", 60, onLine);
}

/** Removing a driver builds the boot image anew: minutes. */
const SWEEP_SECONDS = 900;

/**
 * Takes back everything that the stack still has on a host, whatever Pulumi's state says, and proves that it is gone.
 * @throws Error when something survives; names it
 */
export async function sweepHost(target: HostTarget, stack: string, onLine?: (line: string) => void): Promise<void> {
  await expectSuccess(target, stack, "sweep", SWEEP_SECONDS, onLine);
}

/** Prints the log of a step's unit, or of the step itself, to `onOutput`. */
export async function readLog(
  target: HostTarget,
  stack: string,
  step: string | undefined,
  onOutput: (text: string) => void,
): Promise<number> {
  const answer = await callTarget(target, {
    script: "work.sh",
    argv: step === undefined ? ["logs"] : ["logs", step],
    environment: { TANDEM_STACK: stack },
    onOutput,
    timeoutSeconds: 60,
  });
  return answer.code;
}

/** Set to 1 by `tandem destroy --keep-cache`. */
export const KEEP_CACHE_VARIABLE = "TANDEM_KEEP_CACHE";

/** `TANDEM_KEEP_CACHE=1` at a destroy leaves runtimes and weights on the host, whatever the setting `cache` said. */
export function keepCache(): Record<string, string> {
  return process.env[KEEP_CACHE_VARIABLE] === "1" ? { [KEEP_CACHE_VARIABLE]: "1" } : {};
}

async function expectSuccess(
  target: HostTarget,
  stack: string,
  verb: string,
  timeoutSeconds: number,
  onLine?: (line: string) => void,
): Promise<void> {
  const environment = { TANDEM_STACK: stack, ...keepCache() };
  const answer = await callTarget(target, { script: "work.sh", argv: [verb], environment, timeoutSeconds, onLine });
  if (answer.code !== 0) throw new Error(`${verb} failed on ${describeTarget(target)}: ${lastLine(answer)}`);
}

export function describeTarget(target: HostTarget): string {
  switch (target.kind) {
    case "local":
      return "this machine";
    case "ssh":
      return target.name === target.host ? target.host : `${target.name} (${target.host})`;
    default:
      throw new Error(`unknown target ${JSON.stringify(target satisfies never)}`);
  }
}

/** What a script said last, for an error. */
export function lastLine(answer: HostAnswer): string {
  const lines = `${answer.stdout}\n${answer.stderr}`.split("\n").filter((line) => line.trim() !== "");
  return lines.at(-1) ?? `exit ${answer.code} without a word`;
}
