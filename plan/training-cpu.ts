import type { HostFacts } from "./facts";
import { BYTES_PER_GIB } from "./memory-model";
import type { LedgerPart, PlanRequest } from "./plan";
import type { Problem } from "./problem";

/** The trainer's two processes without the model: Python, PyTorch and their buffers. Measured on two cores, November 2026. */
const PROCESSES_GIB = 1.2;
/** Most CPUs compute bfloat16 more slowly, so the trainer holds the model in 32 bits. */
const BYTES_PER_PARAMETER = 4;
/** Below this not even one short sequence of a small model can be trained. */
const LEAST_ROOM_GIB = 0.5;

/** Name of the part that jobs share out: the trainer is held to it by the kernel. */
export const STEPS_PART = "adapters and steps";

/** Where the training share of a machine that serves on its CPU goes; nothing when nothing trains. */
export function cpuTrainerParts({ settings, shape }: PlanRequest, { memoryTotalGiB }: HostFacts): LedgerPart[] {
  if (settings.training.backend === "off") return [];
  const weights = (shape.parameters * BYTES_PER_PARAMETER) / BYTES_PER_GIB;
  const room = settings.split.training * memoryTotalGiB - weights - PROCESSES_GIB;
  return [part("weights", weights), part("2 processes", PROCESSES_GIB), part(STEPS_PART, room)];
}

function part(name: string, sizeGiB: number): LedgerPart {
  return { side: "training", name, sizeGiB: Math.round(sizeGiB * 1000) / 1000 };
}

/** What the trainer holds as long as it runs, whether it trains or not. */
export function residentParts(parts: readonly LedgerPart[]): LedgerPart[] {
  return parts.filter(({ name }) => name !== STEPS_PART);
}

/** Whether the share holds the model and a step. */
export function cpuTrainerProblem(
  parts: readonly LedgerPart[],
  { settings: { split, training } }: PlanRequest,
  { memoryTotalGiB }: HostFacts,
): Problem | undefined {
  const room = parts.find(({ name }) => name === STEPS_PART)?.sizeGiB;
  if (room === undefined || room >= LEAST_ROOM_GIB) return undefined;
  const needed = residentParts(parts).reduce((sum, { sizeGiB }) => sum + sizeGiB, LEAST_ROOM_GIB);
  return {
    setting: "split",
    what: `training's share of the memory (${split.training} of ${memoryTotalGiB.toFixed(1)} GiB) is too small for the model`,
    value: `${(split.training * memoryTotalGiB).toFixed(1)} GiB`,
    allowed: `at least ${needed.toFixed(1)} GiB`,
    fix: `raise \`split.training\`, or set \`training.backend\` to off (it is ${training.backend})`,
  };
}
