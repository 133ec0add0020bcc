import { keepCapsule } from "./capsule";
import { findKnownCause, type KnownCause } from "./causes";
import { describeTarget } from "./host";
import type { StepRequest } from "./request";
import { StepError } from "./step";

/** Exit status of a work that was stopped: after Ctrl-C, or by a request with other values. Nobody needs that explained. */
const STOPPED = 143;

/**
 * Does something with a step and passes its progress on. When it fails, what explains the failure is collected from the host, and
 * the error names where that is kept; a cause that only the host's logs show is added.
 */
export async function explainingFailure(
  request: StepRequest,
  work: (onProgress: (line: string) => void) => Promise<void>,
): Promise<void> {
  const startedAt = new Date();
  const progress: string[] = [];
  const say = (line: string) => {
    progress.push(line);
    process.stderr.write(`${line}\n`);
  };
  try {
    await work(say);
  } catch (thrown) {
    const error = asStepError(request, thrown);
    if (error.code === STOPPED) throw error;
    const capsule = await keepCapsule({ request, message: error.message, progress, startedAt });
    if (capsule === undefined) throw error;
    throw new StepError(error.step, withCapsule(error.message, capsule.path, capsule.cause), error.code);
  }
}

/** A host that can't be reached fails without the step having had a word. */
function asStepError({ step, target }: StepRequest, error: unknown): StepError {
  if (error instanceof StepError) return error;
  const message = error instanceof Error ? error.message : String(error);
  // What could not be reached was explained where that was noticed.
  const known = message.includes(" — fix: ") ? undefined : findKnownCause(message);
  return new StepError(
    step,
    [`${step} failed on ${describeTarget(target)}: ${message}`, ...(known === undefined ? [] : told(known))].join("\n"),
  );
}

function withCapsule(message: string, path: string, cause: KnownCause | undefined): string {
  const hasCause = message.includes("\n  cause: ");
  return [message, ...(cause === undefined || hasCause ? [] : told(cause)), `  more:  ${path}`].join("\n");
}

function told({ cause, cure }: KnownCause): string[] {
  return [`  cause: ${cause}`, `  cure:  ${cure}`];
}
