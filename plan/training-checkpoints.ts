import type { ModelShape } from "./model-shape";

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

/** Weights of one adapter as PEFT writes it: an A and a B half for each of the seven matrices of a layer. */
function adapterWeights(shape: ModelShape, rank: number): number {
  const { hidden, intermediate, experts } = shape;
  const queryWidth = shape.heads * shape.headDim;
  const kvWidth = shape.kvHeads * shape.headDim;
  const attention = 2 * (hidden + queryWidth) + 2 * (hidden + kvWidth);
  const feedForward = 3 * (hidden + intermediate);
  return shape.layers * rank * (attention + experts * feedForward);
}
