import type { EngineEvent, OutputMap, Stack } from "@pulumi/pulumi/automation";
import { CLIENT_VARIABLE } from "./backend";
import type { Console } from "./console";
import { clientMark, explainEngineError, type Engine } from "./engine";
import { translateEvent, type Action, type RunEvent } from "./engine-events";
import { CommandError, EXIT, messageOf } from "./exit";
import { essenceOf } from "./failure";
import { Interrupted, type Interruption } from "./interruption";
import { findProcesses, isAlive, signalProcess } from "./processes";
import { makeProgress, type Progress } from "./progress";
import type { RunLog } from "./run-log";

/** Time that an interrupted engine gets to write its state, in seconds; at the second request only the shorter. */
const END_SECONDS = 20;
const HURRIED_END_SECONDS = 3;

export interface OperationArgs {
  readonly engine: Engine;
  readonly stack: Stack;
  readonly log: RunLog;
  readonly interruption: Interruption;
  readonly console: Console;
}

/** What a run of the engine did. */
export interface OperationResult {
  /** What was done to each step that was not left as it is, in order. */
  readonly changes: readonly { readonly step: string; readonly action: Action; readonly reason?: string }[];
  readonly unchanged: number;
  readonly outputs: OutputMap;
  readonly seconds: number;
}

/**
 * Runs the engine on a stack and shows its progress.
 * @throws CommandError with what failed, its cause and cure; Interrupted when the user asked for an end
 */
export async function runOperation(kind: "up" | "preview" | "destroy", args: OperationArgs): Promise<OperationResult> {
  const { engine, stack, log, interruption, console } = args;
  const startedAt = Date.now();
  // A preview does nothing that takes time: what it found is told at its end.
  const progress = kind === "preview" ? notesOnly(console) : makeProgress(process.stderr);
  if (kind !== "preview") console.sayThrough((line) => progress.say(line));
  const watch = new Watch(engine.environment.name, progress);
  const options = {
    color: "never" as const,
    suppressProgress: true,
    // One host that fails must not keep the others from coming to their end.
    ...(kind !== "preview" && { continueOnError: true }),
    onOutput: (text: string) => log.write(text),
    onError: (text: string) => log.write(text),
    onEvent: (event: EngineEvent) => {
      log.writeEvent(event);
      watch.handle(event);
    },
  };
  const stopForwarding = forwardInterruption(interruption);
  try {
    const result = await start(stack, kind, options);
    return {
      changes: watch.changes,
      unchanged: watch.unchanged,
      outputs: "outputs" in result ? result.outputs : {},
      seconds: (Date.now() - startedAt) / 1000,
    };
  } catch (error) {
    log.write(messageOf(error));
    if (interruption.isRequested) throw new Interrupted();
    throw watch.failure(log.path) ?? explainEngineError(engine, error);
  } finally {
    stopForwarding();
    console.sayThrough(undefined);
    progress.close();
  }
}

function notesOnly(console: Console): Progress {
  const handle = (event: RunEvent) => {
    if (event.kind === "note") console.say(event.text);
  };
  return { handle, say: console.say, close: () => undefined };
}

type StartOptions = Parameters<Stack["up"]>[0] & Parameters<Stack["preview"]>[0];

function start(
  stack: Stack,
  kind: "up" | "preview" | "destroy",
  options: StartOptions,
): Promise<{ outputs: OutputMap } | object> {
  switch (kind) {
    case "up":
      // The SDK would start the engine once more, for a summary that nobody reads.
      stack.info = () => Promise.resolve(undefined);
      return stack.up(options);
    case "preview":
      return stack.preview(options);
    case "destroy":
      return stack.destroy(options);
    default:
      throw new Error(`unknown operation ${JSON.stringify(kind satisfies never)}`);
  }
}

/** Follows a run: passes on what a reader sees and remembers what its end needs. */
class Watch {
  readonly changes: { step: string; action: Action; reason?: string }[] = [];
  unchanged = 0;
  private readonly errors: Extract<RunEvent, { kind: "error" }>[] = [];

  constructor(
    private readonly stackName: string,
    private readonly progress: Progress,
  ) {}

  handle(engineEvent: EngineEvent): void {
    for (const event of translateEvent(engineEvent, this.stackName)) {
      if (event.kind === "started" && event.action !== "unchanged") {
        const { step, action, reason } = event;
        this.changes.push({ step, action, reason });
      }
      if (event.kind === "finished" && event.action === "unchanged") this.unchanged++;
      if (event.kind === "error") this.errors.push(event);
      this.progress.handle(event);
    }
  }

  /** What failed, one block for each step; undefined when the engine said nothing itself. */
  failure(logPath: string): CommandError | undefined {
    // What depended on a failed step fails with it, in the SDK's words; only the step itself tells why.
    const own = this.errors.filter(({ text }) => !/resource \S+ \[\S+\] failed to register/.test(text));
    const errors = own.length > 0 ? own : this.errors;
    if (errors.length === 0) return undefined;
    const blocks = errors.map(({ step, text }) => {
      const essence = essenceOf(text);
      return step === undefined || essence.startsWith(`${step} failed`) ? essence : `${step} failed: ${essence}`;
    });
    const message = [...new Set(blocks)].join("\n");
    return new CommandError(`${message}\n  all of it: ${logPath}`, EXIT.failed, {
      failures: errors.map(({ step, text }) => ({ step, message: essenceOf(text) })),
      log: logPath,
    });
  }
}

/**
 * Sends each engine process the user's request once (twice when it is urgent), and ends it when it takes too long.
 * By looking for the processes, since the engine may start only after the request came.
 */
function forwardInterruption(interruption: Interruption): () => void {
  const told = new Map<number, number>();
  let poll: NodeJS.Timeout | undefined;
  let requestedAt = 0;
  const tell = () => {
    const wanted = interruption.isUrgent ? 2 : 1;
    const limitSeconds = interruption.isUrgent ? HURRIED_END_SECONDS : END_SECONDS;
    for (const processId of findProcesses("pulumi", CLIENT_VARIABLE, (client) => client === clientMark())) {
      if (!isAlive({ processId, startTicks: "" })) continue;
      const count = told.get(processId) ?? 0;
      if (count < wanted) signalProcess(processId, "SIGINT");
      told.set(processId, Math.max(count, wanted));
      if (Date.now() - requestedAt > limitSeconds * 1000) signalProcess(processId, "SIGKILL");
    }
  };
  const stopListening = interruption.onRequest(() => {
    // The limit runs anew from an urgent request.
    requestedAt = Date.now();
    poll ??= setInterval(tell, 200);
    tell();
  });
  return () => {
    stopListening();
    clearInterval(poll);
  };
}
