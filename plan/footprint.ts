import type { HostFacts } from "./facts";
import { fixedParts, totalGiB, weightsGiB, type FixedParts, type ServingShape } from "./memory-model";
import type { Plan } from "./plan";
import type { Settings } from "./settings";

/** What vLLM was measured to take on one GPU beside its KV cache. Kept on the host, beside the weights, by the proof step. */
export interface Footprint {
  /** Everything that it depends on: `footprintKey`. */
  readonly key: string;
  readonly besideKvGiB: number;
}

/** The footprint that a plan's KV cache was worked out from. */
export interface PlannedFootprint extends Footprint {
  /** The key with the share: a vLLM that was started with it and runs is not started again for a better figure. */
  readonly startKey: string;
  readonly basis: "measured" | "worked out";
}

export interface FootprintRequest {
  readonly settings: Settings;
  readonly host: HostFacts;
  readonly serving: ServingShape;
  readonly replicas: number;
  readonly gpuModel: string;
  readonly gpuTotalGiB: number;
}

/** Parts of one GPU beside the KV cache, and where they come from. */
export interface KnownFootprint {
  readonly parts: FixedParts;
  readonly planned: PlannedFootprint;
}

/**
 * What vLLM takes beside its KV cache: what the running vLLM of this very plan was started with, else what was measured on this host after
 * an earlier start, else what the memory model works out.
 */
export function knownFootprint(request: FootprintRequest): KnownFootprint {
  const { host, serving, gpuTotalGiB, settings } = request;
  const key = footprintKey(request);
  const startKey = `${key} share=${settings.split.serving} of ${gpuTotalGiB.toFixed(2)} GiB`;
  const modelled = fixedParts(serving);
  const measured = host.footprints?.find((record) => record.key === key && isPossible(record, request));
  const running = host.startedWith?.key === startKey ? host.startedWith : undefined;
  const besideKvGiB = running?.besideKvGiB ?? measured?.besideKvGiB;
  if (besideKvGiB === undefined || isSame(besideKvGiB, totalGiB(modelled))) {
    return {
      parts: modelled,
      planned: { key, startKey, besideKvGiB: rounded(totalGiB(modelled)), basis: "worked out" },
    };
  }
  return { parts: withTotal(modelled, besideKvGiB), planned: { key, startKey, besideKvGiB, basis: "measured" } };
}

/** Text that is the same for two starts of vLLM that take the same memory beside their KV caches. The revision stands for the weights. */
function footprintKey({ settings, serving, replicas, gpuModel }: FootprintRequest): string {
  const { model, revision, runtime, vllmVersion, runtimePath, runtimeImage, lora } = settings;
  const parts = [
    `${model}@${revision}`,
    `vllm=${[runtime, vllmVersion, runtimePath, runtimeImage].filter((part) => part !== undefined).join(":")}`,
    `tp=${serving.tensorParallel} pp=${serving.pipelineParallel} replicas=${replicas}`,
    serving.dtype,
    gpuModel,
    // Not the length that follows from the KV cache, which follows from this.
    `length=${settings.serving.maxModelLen ?? "auto"}`,
    `lora=${lora.enabled ? `${lora.maxAdapters}x${lora.maxRank}` : "off"}`,
    serving.enforceEager ? "eager" : "graphs",
    ...settings.serving.extraArgs,
  ];
  // Hosts read it with tools that know no escapes.
  return parts.join(" ").replaceAll(/["'\\\p{Cc}]/gu, "_");
}

/** A figure that can't be true, of a run that others disturbed, say, is no figure. */
function isPossible({ besideKvGiB }: Footprint, { settings, serving, gpuTotalGiB }: FootprintRequest): boolean {
  return besideKvGiB >= weightsGiB(serving) && besideKvGiB < settings.split.serving * gpuTotalGiB;
}

/** The modelled parts with another sum: what is known least gives way first. */
function withTotal(modelled: FixedParts, sumGiB: number): FixedParts {
  let difference = sumGiB - totalGiB(modelled);
  const parts = { ...modelled };
  for (const name of ["contexts", "graphs", "activations", "adapters", "weights"] as const) {
    const size = Math.max(0, parts[name] + difference);
    difference -= size - parts[name];
    parts[name] = size;
  }
  return parts;
}

function isSame(one: number, other: number): boolean {
  return rounded(one) === rounded(other);
}

/** To 1 MiB, as exact as `nvidia-smi` is. */
function rounded(sizeGiB: number): number {
  return Math.round(sizeGiB * 1024) / 1024;
}

/** Why a plan's KV cache is not what the memory model alone would make of it; for people. */
export function footprintReasons({ footprint }: Pick<Plan, "footprint">): string[] {
  if (footprint?.basis !== "measured") return [];
  return [
    `the KV cache follows from what vLLM took beside it here before: ${footprint.besideKvGiB.toFixed(2)} GiB on each GPU, measured`,
  ];
}
