import { SPLIT_PRESETS, type SplitPreset } from "./split-presets";

/** Shares of each GPU's memory; of the total that `nvidia-smi` shows, which is about 0.6 % more than CUDA's. */
export interface Split {
  /** vLLM's whole footprint: weights, adapters, KV cache, activations, CUDA graphs, NCCL and contexts. */
  readonly serving: number;
  /** The trainer's whole footprint. Free when nothing trains. */
  readonly training: number;
}

/** What a user may write for `split`. */
export type SplitInput = SplitPreset | number | { readonly serving: number; readonly training?: number | undefined };

/** The two shares. Without `training`, everything that serving leaves goes to it. */
export function resolveSplit(split: SplitInput): Split {
  const asked =
    typeof split === "string"
      ? { serving: SPLIT_PRESETS[split] }
      : typeof split === "number"
        ? { serving: split }
        : split;
  return { serving: asked.serving, training: asked.training ?? rounded(1 - asked.serving) };
}

/** 1 - 0.4 is 0.6 to a reader, not 0.5999999999999999. */
function rounded(share: number): number {
  return Math.round(share * 1e6) / 1e6;
}
