/**
 * What Tandem itself costs, on this machine with a real model:
 *   1. `tandem up` from nothing beyond vLLM's own start; downloads are in the cache by then;
 *   2. `tandem up` that changes nothing beyond an empty Pulumi program through the same engine.
 * Prints plain lines; exits with 1 when a measurement could not be made.
 */
import { loadavg } from "node:os";
import * as path from "node:path";
import { openBenchStack, timed, type BenchStack } from "./bench-stack";

const COLD_RUNS = 2;
const NO_OP_RUNS = 7;
const COLD_TARGET_SECONDS = 10;
const NO_OP_TARGET_SECONDS = 2;

async function main(): Promise<void> {
  process.on("SIGINT", () => undefined); // The command that runs is interrupted and fails; the stack is destroyed below.
  const stack = await openBenchStack();
  try {
    console.log("Filling the caches (engine, runtime, weights) with a first up and destroy");
    await stack.tandem("up");
    await stack.tandem("destroy");
    await reportColdStart(stack);
    await reportNoOp(stack);
  } finally {
    await stack.tandem("destroy");
    stack.remove();
  }
  console.log(
    `load average at the end: ${loadavg()
      .map((load) => load.toFixed(1))
      .join(" ")}`,
  );
}

/** Leaves the stack up. */
async function reportColdStart(stack: BenchStack): Promise<void> {
  const overheads: number[] = [];
  for (let round = 1; round <= COLD_RUNS; round++) {
    if (round > 1) await stack.tandem("destroy");
    const watch = stack.watchStart();
    const upSeconds = await stack.tandem("up");
    const vllmSeconds = watch.stop();
    if (vllmSeconds === undefined) throw new Error("vLLM's own start was not seen");
    overheads.push(upSeconds - vllmSeconds);
    console.log(
      `up from nothing: ${show(upSeconds)}, vLLM's own start ${show(vllmSeconds)}, beyond it ${show(upSeconds - vllmSeconds)}`,
    );
  }
  console.log(
    `up beyond vLLM's own start: ${show(median(overheads))} (median of ${COLD_RUNS}; ${verdict(median(overheads), COLD_TARGET_SECONDS)})`,
  );
}

async function reportNoOp(stack: BenchStack): Promise<void> {
  const program = path.join(__dirname, "empty-program.cjs");
  const empty = () => timed(process.execPath, [program, path.join(stack.folder, "empty")], process.env);
  await empty(); // The first makes its stack.
  const own: number[] = [];
  const empties: number[] = [];
  for (let round = 0; round < NO_OP_RUNS; round++) {
    own.push(await stack.tandem("up"));
    empties.push(await empty());
  }
  const [ownMedian, emptyMedian] = [median(own), median(empties)];
  const difference = ownMedian - emptyMedian;
  console.log(
    `up that changes nothing: ${show(ownMedian)}, empty program ${show(emptyMedian)} (medians of ${NO_OP_RUNS}, alternating)`,
  );
  console.log(
    `up that changes nothing beyond an empty program: ${show(difference)}, ratio ${(ownMedian / emptyMedian).toFixed(2)} ` +
      `(${verdict(difference, NO_OP_TARGET_SECONDS)})`,
  );
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

function show(seconds: number): string {
  return `${seconds.toFixed(2)} s`;
}

function verdict(seconds: number, targetSeconds: number): string {
  return `target under ${targetSeconds} s: ${seconds < targetSeconds ? "met" : "missed"}`;
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
