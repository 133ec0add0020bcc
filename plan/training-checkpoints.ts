import type { HostFacts } from "./facts";
import type { ModelShape } from "./model-shape";
import type { Settings } from "./settings";
import { trainingRank } from "./training-rank";

/** Jobs that the disk has to hold at once: ten users who train in turns. */
const JOBS = 10;
/** Of each job the finished adapter and those of its last two epochs stay, as 32-bit numbers. */
const ADAPTERS_PER_JOB = 3;
const BYTES_PER_WEIGHT = 4;
/** What a restart goes on from: the weights and Adam's two moments, all of 32 bits. */
const BYTES_PER_RESUMED_WEIGHT = 12;

/** Room for the adapters and checkpoints of ten jobs, in bytes; one job at a time writes a new checkpoint beside its old one. */
export function checkpointBytes(shape: ModelShape, rank: number): number {
  const weights = adapterWeights(shape, rank);
  return weights * (JOBS * ADAPTERS_PER_JOB * BYTES_PER_WEIGHT + (JOBS + 1) * BYTES_PER_RESUMED_WEIGHT);
}

/** Memory of the smallest file system for adapters, and the most of a machine's memory that one may take. */
const LEAST_MEMORY_MIB = 256;
const MOST_OF_MEMORY = 0.25;

/**
 * Size of the memory file system from which vLLM reads adapters, in MiB: twice as many as it serves at once, so that those which take turns
 * are there as well. What does not fit is read from the disk; what is not used takes no memory.
 */
export function adaptersMemoryMib(settings: Settings, shape: ModelShape, { memoryTotalGiB }: HostFacts): number {
  const adapterMib = (adapterWeights(shape, trainingRank(settings)) * BYTES_PER_WEIGHT) / 2 ** 20;
  const wanted = Math.max(LEAST_MEMORY_MIB, 2 * settings.lora.maxAdapters * adapterMib);
  return Math.floor(Math.min(wanted, MOST_OF_MEMORY * memoryTotalGiB * 1024));
}

/** Weights of one adapter as PEFT writes it: an A and a B half for each of the seven matrices of a layer. */
function adapterWeights(shape: ModelShape, rank: number): number {
  const { hidden, intermediate, experts } = shape;
  const queryWidth = shape.heads * shape.headDim;
  const kvWidth = shape.kvHeads * shape.headDim;
  const attention = 2 * (hidden + queryWidth) + 2 * (hidden + kvWidth);
  const feedForward = 3 * (hidden + intermediate);
  return shape.layers * rank * (attention + experts * feedForward);
}
