import { BYTES_PER_GIB } from "./memory-model";
import type { ModelShape } from "./model-shape";

export interface TrainerShape {
  readonly shape: ModelShape;
  /** Tensor parallel size of the trainer. */
  readonly tensorParallel: number;
  readonly rank: number;
  readonly sequenceLength: number;
  readonly batchSize: number;
}

/** Memory of the trainer on one GPU, in GiB, by part. */
export interface TrainerParts {
  readonly weights: number;
  /** Adapter weights, their gradients, 32-bit copies and Adam's two moments. */
  readonly adapter: number;
  /** Activations of a step, or what loading the weights takes for a moment, whichever is more. */
  readonly activations: number;
  readonly context: number;
}

/**
 * CUDA context and NCCL of a trainer before its first byte of use: `nvidia-smi`'s 3 264 MiB less PyTorch's peak of 1 015 MiB
 * (2 x H100, Megatron-Bridge 0.6.2 at TP 2, 25 November 2026). Fitted on that one row; assumed without tensor parallelism too.
 */
const CONTEXT_GIB = 2249 / 1024;

/** 16-bit weight and gradient, 32-bit gradient and master copy, two 32-bit moments of Adam: Megatron's mixed precision. */
const BYTES_PER_ADAPTER_WEIGHT = 2 + 4 + 4 + 8;

/** Adapter weights of one GPU: query-key-value, projection and both feed-forward halves of every layer, fused as Megatron has them. */
function adapterWeights({ shape, tensorParallel, rank }: TrainerShape): number {
  const queryWidth = shape.heads * shape.headDim;
  const kvWidth = shape.kvHeads * shape.headDim;
  const qkv = shape.hidden + (queryWidth + 2 * kvWidth) / tensorParallel;
  const projection = queryWidth / tensorParallel + shape.hidden;
  const feedForward = 2 * shape.hidden + (3 * shape.intermediate) / tensorParallel;
  return shape.layers * rank * (qkv + projection + shape.experts * feedForward);
}

/**
 * Activations of one step in bytes, without recomputation: tokens x hidden x (10 + 24 / TP) a layer (Korthikanti et al., 2022,
 * "Reducing Activation Recomputation in Large Transformer Models", equation 2, without the attention matrix, which
 * flash attention does not keep), and the logits in 16 and twice in 32 bits.
 */
function activationBytes({ shape, tensorParallel, sequenceLength, batchSize }: TrainerShape): number {
  const tokens = sequenceLength * batchSize;
  const widening = (shape.intermediate * shape.expertsPerToken) / (4 * shape.hidden);
  const layer = tokens * shape.hidden * (10 + (24 * Math.max(1, widening)) / tensorParallel);
  return shape.layers * layer + (tokens * shape.vocab * 10) / tensorParallel;
}

/**
 * Loading keeps the largest matrix, the embedding, whole and this GPU's slice of it beside the weights for a moment.
 * That is what PyTorch's measured peak of 1 015 MiB was (predicted: 1 014), with sequences too short to matter.
 */
function loadingBytes({ shape, tensorParallel }: TrainerShape): number {
  return shape.vocab * shape.hidden * 2 * (1 + 1 / tensorParallel);
}

export function trainerParts(trainer: TrainerShape): TrainerParts {
  const adapterBytes = adapterWeights(trainer) * BYTES_PER_ADAPTER_WEIGHT;
  const atWork = Math.max(activationBytes(trainer), loadingBytes(trainer) - adapterBytes);
  return {
    weights: (trainer.shape.parameters * 2) / trainer.tensorParallel / BYTES_PER_GIB,
    adapter: adapterBytes / BYTES_PER_GIB,
    activations: atWork / BYTES_PER_GIB,
    context: CONTEXT_GIB,
  };
}

export function trainerTotalGiB(parts: TrainerParts): number {
  return parts.weights + parts.adapter + parts.activations + parts.context;
}
