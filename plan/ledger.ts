import {
  BYTES_PER_GIB,
  fixedParts,
  kvBytesPerToken,
  totalGiB,
  type FixedParts,
  type ServingShape,
} from "./memory-model";
import type { GpuLedger, LedgerPart } from "./plan";
import type { Split } from "./split";
import { trainerParts, trainerTotalGiB, type TrainerShape } from "./trainer-memory";

/** Tokens of one KV cache block of vLLM; it rounds the cache down to whole blocks. */
const BLOCK_TOKENS = 16;

export interface KvCache {
  /** On each GPU; negative or 0 when the share is too small for the model itself. */
  readonly bytes: number;
  /** What one replica holds. */
  readonly tokens: number;
}

/**
 * The KV cache that makes vLLM's **whole** footprint the chosen share: share x total - everything else that vLLM takes.
 * @param gpuTotalGiB the smallest of the GPUs' totals as `nvidia-smi` reports them; the cache is the same on every GPU
 * @param fixed what vLLM takes beside it
 */
export function kvCacheFor(
  serving: ServingShape,
  servingShare: number,
  gpuTotalGiB: number,
  fixed: FixedParts = fixedParts(serving),
): KvCache {
  const leftBytes = (servingShare * gpuTotalGiB - totalGiB(fixed)) * BYTES_PER_GIB;
  const blockBytes = kvBytesPerToken(serving) * BLOCK_TOKENS;
  const blocks = Math.floor(leftBytes / blockBytes);
  return { bytes: blocks * blockBytes, tokens: blocks * BLOCK_TOKENS };
}

/** CUDA's total over `nvidia-smi`'s: 79.18 of 79.65 GiB on an H100 80GB (driver 580); the rest is the driver's own. */
const CUDA_OF_TOTAL = 79.18 / 79.65;

/** What CUDA lets programs have of a GPU, in GiB. vLLM's `--gpu-memory-utilization` is a fraction of this. */
export function cudaTotalGiB(gpuTotalGiB: number): number {
  return gpuTotalGiB * CUDA_OF_TOTAL;
}

/** The trainer's share in GiB, cut where the two shares would take what the driver keeps. */
export function trainingShareGiB(split: Split, gpuTotalGiB: number): number {
  return Math.min(split.training * gpuTotalGiB, cudaTotalGiB(gpuTotalGiB) - split.serving * gpuTotalGiB);
}

export interface LedgerRequest {
  readonly index: number;
  readonly totalGiB: number;
  /** What vLLM takes beside its KV cache. */
  readonly serving: FixedParts;
  readonly kvCacheBytes: number;
  readonly split: Split;
  /** Absent when nothing trains. */
  readonly trainer?: TrainerShape;
}

/** Where the memory of one GPU goes. The parts add up to its total. */
export function gpuLedger({ index, totalGiB: total, serving, kvCacheBytes, split, trainer }: LedgerRequest): GpuLedger {
  const servingSide = servingParts(serving, kvCacheBytes);
  const servingGiB = sum(servingSide);
  const trainingSide = trainer === undefined ? [] : trainingParts(trainer, trainingShareGiB(split, total));
  const trainingGiB = sum(trainingSide);
  const freeGiB = total - servingGiB - trainingGiB;
  return {
    index,
    totalGiB: rounded(total),
    servingGiB: rounded(servingGiB),
    trainingGiB: rounded(trainingGiB),
    freeGiB: rounded(freeGiB),
    parts: [
      ...servingSide,
      ...trainingSide,
      part("free", trainer === undefined ? "free for training" : "slack", freeGiB),
    ],
  };
}

function servingParts(fixed: FixedParts, kvCacheBytes: number): LedgerPart[] {
  return [
    part("serving", "weights", fixed.weights),
    part("serving", "adapter slots", fixed.adapters),
    part("serving", "KV cache", kvCacheBytes / BYTES_PER_GIB),
    part("serving", "activations", fixed.activations),
    part("serving", "CUDA graphs", fixed.graphs),
    part("serving", "NCCL and contexts", fixed.contexts),
  ].filter(({ sizeGiB }) => sizeGiB > 0);
}

function trainingParts(trainer: TrainerShape, shareGiB: number): LedgerPart[] {
  const parts = trainerParts(trainer);
  return [
    part("training", "weights", parts.weights),
    part("training", "LoRA gradients and optimizer", parts.adapter),
    part("training", "activations", parts.activations),
    part("training", "NCCL and context", parts.context),
    part("training", "room for larger batches", shareGiB - trainerTotalGiB(parts)),
  ].filter(({ sizeGiB }) => sizeGiB > 0);
}

function part(side: LedgerPart["side"], name: string, sizeGiB: number): LedgerPart {
  return { side, name, sizeGiB: rounded(sizeGiB) };
}

function sum(parts: readonly LedgerPart[]): number {
  return parts.reduce((total, { sizeGiB }) => total + sizeGiB, 0);
}

/** A thousandth of a GiB is 1 MiB, which is as exact as `nvidia-smi` is. */
function rounded(sizeGiB: number): number {
  return Math.round(sizeGiB * 1000) / 1000;
}
