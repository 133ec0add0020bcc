import type { GpuFacts, HostFacts } from "./facts";
import { knownFootprint, type KnownFootprint } from "./footprint";
import { kvCacheFor, trainingShareGiB, type KvCache } from "./ledger";
import { defaultBatch, totalGiB, type ServingShape } from "./memory-model";
import type { ModelShape } from "./model-shape";
import { legalTrainerSizes } from "./parallel";
import type { Dtype } from "./plan";
import type { Settings } from "./settings";
import { trainingRank } from "./training-rank";
import { trainerParts, trainerTotalGiB, type TrainerShape } from "./trainer-memory";

/** Everything that the choice of sizes depends on. */
export interface GpuContext {
  readonly settings: Settings;
  readonly shape: ModelShape;
  readonly host: HostFacts;
  readonly gpus: readonly GpuFacts[];
  readonly dtype: Dtype;
  /** The smallest of the GPUs' totals: every worker gets the same KV cache. */
  readonly gpuTotalGiB: number;
}

/** One way to lay the model over the GPUs, with what it leaves for the KV cache. */
export interface Candidate {
  readonly tensorParallel: number;
  readonly replicas: number;
  readonly serving: ServingShape;
  readonly footprint: KnownFootprint;
  readonly kv: KvCache;
  readonly maxModelLen: number;
  readonly verdict: "fits" | "tight" | "does not fit";
  /** Absent when nothing trains, and when no size of the trainer fits. */
  readonly trainer?: TrainerShape;
  /** Why it does not fit, in GiB and tokens. */
  readonly shortage?: string;
}

/** A model that was not asked for a length is useful from this many tokens a request. */
const USEFUL_LENGTH = 8192;
const LEAST_LENGTH = 2048;
/** Below this a KV cache holds so few requests that batching does nothing. */
const USEFUL_CACHE_TOKENS = 16_384;

export function evaluate(context: GpuContext, tensorParallel: number, replicas: number): Candidate {
  const { settings, shape, gpuTotalGiB } = context;
  const serving = servingShape(context, tensorParallel);
  const gpuModel = context.gpus[0]?.model ?? "";
  const footprint = knownFootprint({ settings, host: context.host, serving, replicas, gpuModel, gpuTotalGiB });
  const kv = kvCacheFor(serving, settings.split.serving, gpuTotalGiB, footprint.parts);
  const asked = settings.serving.maxModelLen;
  const trainer = settings.training.backend === "off" ? undefined : fittingTrainer(context);
  const base = {
    tensorParallel,
    replicas,
    serving,
    footprint,
    kv,
    maxModelLen: asked ?? Math.min(shape.maxPositions, lengthThatFits(kv.tokens)),
  };

  const least = asked ?? Math.min(shape.maxPositions, LEAST_LENGTH);
  if (kv.tokens < least) return { ...base, verdict: "does not fit", shortage: servingShortage(context, base, least) };
  if (settings.training.backend !== "off" && trainer === undefined) {
    return { ...base, verdict: "does not fit", shortage: trainingShortage(context) };
  }
  const useful = Math.max(2 * (asked ?? Math.min(shape.maxPositions, USEFUL_LENGTH)), USEFUL_CACHE_TOKENS);
  return { ...base, ...(trainer && { trainer }), verdict: kv.tokens >= useful ? "fits" : "tight" };
}

function servingShape(context: GpuContext, tensorParallel: number): ServingShape {
  const { settings, shape, dtype, gpus, gpuTotalGiB } = context;
  return {
    shape,
    dtype,
    tensorParallel,
    pipelineParallel: settings.pipelineParallel,
    ownAllReduce: hasOwnAllReduce(context, tensorParallel),
    lora: settings.lora,
    enforceEager: settings.serving.enforceEager ?? false,
    ...defaultBatch(gpus[0]?.model ?? "", gpuTotalGiB),
  };
}

/** What is not known is taken as no: its graphs need more. vLLM leaves other sizes, and more than two GPUs without NVLink, to NCCL. */
function hasOwnAllReduce({ settings, host }: GpuContext, tensorParallel: number): boolean {
  const isJoined = tensorParallel === 2 || ([4, 6, 8].includes(tensorParallel) && host.gpuLink === "nvlink");
  const isOff = settings.serving.extraArgs.includes("--disable-custom-all-reduce");
  return host.peerAccess === true && isJoined && !isOff;
}

/** Whole multiples of 1 024 tokens, or of the block size in a very small cache. */
function lengthThatFits(tokens: number): number {
  const step = tokens >= 1024 ? 1024 : 16;
  return Math.max(0, Math.floor(tokens / step) * step);
}

/** The smallest tensor parallel size at which the trainer stays in its share, or the one that was asked for if it does. */
function fittingTrainer(context: GpuContext): TrainerShape | undefined {
  const share = trainingShareGiB(context.settings.split, context.gpuTotalGiB);
  return trainerShapes(context).find((trainer) => trainerTotalGiB(trainerParts(trainer)) <= share);
}

function trainerShapes({ settings, shape, gpus }: GpuContext): TrainerShape[] {
  const { backend, tensorParallel: asked, sequenceLength, batchSize } = settings.training;
  // Hugging Face's PEFT keeps the model whole.
  const legal = backend === "megatron-bridge" ? legalTrainerSizes(shape, gpus.length) : [1];
  return legal
    .filter((size) => asked === "auto" || size === asked)
    .map((tensorParallel) => ({ shape, tensorParallel, rank: trainingRank(settings), sequenceLength, batchSize }));
}

function servingShortage(
  { settings, gpuTotalGiB }: GpuContext,
  { serving, footprint, kv }: Pick<Candidate, "serving" | "footprint" | "kv">,
  leastTokens: number,
): string {
  const share = settings.split.serving * gpuTotalGiB;
  const fixed = totalGiB(footprint.parts);
  const has =
    kv.tokens > 0
      ? `leaves a KV cache of ${kv.tokens} tokens, ${leastTokens} are needed`
      : "leaves nothing for the KV cache";
  return `tensor parallel ${serving.tensorParallel} takes ${fixed.toFixed(1)} of serving's ${share.toFixed(1)} GiB on each GPU and ${has}`;
}

function trainingShortage(context: GpuContext): string {
  const needs = trainerShapes(context).map((trainer) => trainerTotalGiB(trainerParts(trainer)));
  const share = trainingShareGiB(context.settings.split, context.gpuTotalGiB);
  return `the trainer needs ${Math.min(...needs).toFixed(1)} GiB on each GPU and its share is ${share.toFixed(1)} GiB`;
}
