import { kvHeadsPerGpu } from "./parallel";
import type { ModelShape } from "./model-shape";
import type { Dtype } from "./plan";

export const BYTES_PER_GIB = 2 ** 30;

/** How one copy of a model is run, as far as its memory depends on it. */
export interface ServingShape {
  readonly shape: ModelShape;
  readonly dtype: Dtype;
  readonly tensorParallel: number;
  readonly pipelineParallel: number;
  /** Whether vLLM's own all-reduce runs between the GPUs of a copy: it needs peer access, and beyond two GPUs NVLink. */
  readonly ownAllReduce: boolean;
  readonly lora: { readonly enabled: boolean; readonly maxAdapters: number; readonly maxRank: number };
  readonly enforceEager: boolean;
  /** vLLM's `--max-num-batched-tokens`. */
  readonly maxBatchedTokens: number;
  /** vLLM's `--max-num-seqs`. */
  readonly maxSequences: number;
}

/**
 * Constants of vLLM's memory on one GPU, in GiB, fitted on three of the configurations in `test/plan/measured-rows.json` (all of a
 * Qwen3-0.6B, vLLM 0.26.0: without and with tensor parallelism on 2 x H100, and over 4 x H100); the other rows are predictions.
 */
const FITTED = {
  /** CUDA context, kernels, allocator rounding: what `nvidia-smi` shows beyond vLLM's own account, without tensor parallelism. */
  contextGiB: 1.476,
  /** The same with tensor parallelism: adds NCCL's and the all-reduce's buffers. Fitted at 2; 0.2 GiB too much at 4. */
  contextWithNcclGiB: 2.747,
  /** vLLM's "non-torch memory". */
  nonTorchGiB: 0.07,
  /** CUDA graphs of a model of 28 layers with adapters: vLLM captures each batch size with and without them. */
  graphsGiB: 0.82,
  /** With tensor parallelism, when NCCL makes the all-reduce. */
  graphsWithNcclGiB: 2.42,
  /** The same with vLLM's own all-reduce. */
  graphsWithOwnAllReduceGiB: 0.73,
  graphsLayers: 28,
  /** Peak of the sampler's and the logits' buffers for each byte of 32-bit logits of a full batch. */
  logitsFactor: 1.33,
} as const;

export function bytesPerElement(dtype: Dtype): number {
  return dtype === "float32" ? 4 : 2;
}

/** Weights of one GPU, in GiB. Embeddings and matrices are divided; norms are copied, which is nothing. */
export function weightsGiB({ shape, dtype, tensorParallel, pipelineParallel }: ServingShape): number {
  return (shape.parameters * bytesPerElement(dtype)) / (tensorParallel * pipelineParallel) / BYTES_PER_GIB;
}

/**
 * Adapter slots of one GPU, in GiB: vLLM sets aside `maxAdapters` slots of `maxRank` for every layer, used or not.
 * Of a matrix that is divided by columns the A half is whole on every GPU and the B half divided; by rows the other way round.
 * Embedding, output head and logits each take vocabulary x rank, whole on every GPU. Derived from vLLM's layers; reproduces
 * the 2.16 and 1.41 GiB of weights and slots measured at tensor parallel 1 and 2.
 */
export function adapterSlotsGiB({ shape, dtype, tensorParallel, pipelineParallel, lora }: ServingShape): number {
  if (!lora.enabled) return 0;
  const { hidden, intermediate, experts, vocab } = shape;
  const queryWidth = shape.heads * shape.headDim;
  const kvWidth = kvHeadsPerGpu(shape, tensorParallel) * shape.headDim;
  const attention = 3 * hidden + queryWidth / tensorParallel + 2 * kvWidth + queryWidth / tensorParallel + hidden;
  const feedForward = 2 * hidden + (2 * intermediate) / tensorParallel + intermediate / tensorParallel + hidden;
  const layers = (shape.layers / pipelineParallel) * (attention + experts * feedForward);
  const elements = lora.maxAdapters * lora.maxRank * (layers + 3 * (vocab + hidden));
  return (elements * bytesPerElement(dtype)) / BYTES_PER_GIB;
}

/** Bytes of KV cache that one token takes on one GPU: keys and values of every layer that the GPU holds. */
export function kvBytesPerToken({ shape, dtype, tensorParallel, pipelineParallel }: ServingShape): number {
  const layers = Math.ceil(shape.layers / pipelineParallel);
  return 2 * layers * kvHeadsPerGpu(shape, tensorParallel) * shape.headDim * bytesPerElement(dtype);
}

/** Peak of a forward pass over a full batch, in GiB: hidden states and the widest layer, or the logits, whichever is more. */
export function activationsGiB({ shape, dtype, tensorParallel, ...batch }: ServingShape): number {
  const widest = 4 * shape.hidden + (2 * shape.intermediate * shape.expertsPerToken) / tensorParallel;
  const hidden = batch.maxBatchedTokens * widest * bytesPerElement(dtype);
  const logits = batch.maxSequences * shape.vocab * 4 * FITTED.logitsFactor;
  return Math.max(hidden, logits) / BYTES_PER_GIB;
}

/** Captured CUDA graphs, in GiB; half without adapters, none when they are switched off. */
export function cudaGraphsGiB(serving: ServingShape): number {
  const { shape, tensorParallel, pipelineParallel, lora, enforceEager, ownAllReduce } = serving;
  if (enforceEager) return 0;
  const spread = ownAllReduce ? FITTED.graphsWithOwnAllReduceGiB : FITTED.graphsWithNcclGiB;
  const measured = tensorParallel > 1 ? spread : FITTED.graphsGiB;
  const layers = shape.layers / pipelineParallel / FITTED.graphsLayers;
  return measured * layers * (lora.enabled ? 1 : 0.5);
}

/** CUDA context, kernels and NCCL's buffers, in GiB: the part of the footprint that vLLM's own account leaves out, and its "non-torch" part. */
export function contextsGiB({ tensorParallel, pipelineParallel }: ServingShape): number {
  const workers = tensorParallel * pipelineParallel;
  return FITTED.nonTorchGiB + (workers > 1 ? FITTED.contextWithNcclGiB : FITTED.contextGiB);
}

/** What vLLM takes on one GPU beside the KV cache, in GiB, by part. */
export interface FixedParts {
  readonly weights: number;
  readonly adapters: number;
  readonly activations: number;
  readonly graphs: number;
  readonly contexts: number;
}

export function fixedParts(serving: ServingShape): FixedParts {
  return {
    weights: weightsGiB(serving),
    adapters: adapterSlotsGiB(serving),
    activations: activationsGiB(serving),
    graphs: cudaGraphsGiB(serving),
    contexts: contextsGiB(serving),
  };
}

export function totalGiB(parts: FixedParts): number {
  return parts.weights + parts.adapters + parts.activations + parts.graphs + parts.contexts;
}

/**
 * What `nvidia-smi` shows for one GPU when vLLM is given only its fraction (`--gpu-memory-utilization`), in GiB: it fills the fraction of
 * CUDA's total with weights, activations and KV cache, then captures graphs and keeps contexts and NCCL's buffers on top of it.
 */
export function footprintOfFraction(serving: ServingShape, fraction: number, cudaTotalGiB: number): number {
  return fraction * cudaTotalGiB + cudaGraphsGiB(serving) + contextsGiB(serving) - FITTED.nonTorchGiB;
}

/** vLLM's default batch on an API server: larger on cards of 70 GiB and more that are no A100, largest from 160 GiB (read in 0.32.0). */
export function defaultBatch(gpuModel: string, memoryGiB: number): { maxBatchedTokens: number; maxSequences: number } {
  if (memoryGiB >= 160) return { maxBatchedTokens: 16_384, maxSequences: 1024 };
  if (memoryGiB >= 70 && !/a100/i.test(gpuModel)) return { maxBatchedTokens: 8192, maxSequences: 1024 };
  return { maxBatchedTokens: 2048, maxSequences: 256 };
}
