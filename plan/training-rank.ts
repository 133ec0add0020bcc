import type { Settings } from "./settings";

const USUAL_RANK = 32;

/** The adapter rank that memory and disk are reserved for: what is asked for, else what vLLM can serve, 32 at most. */
export function trainingRank({ training, lora }: Pick<Settings, "training" | "lora">): number {
  return training.rank ?? Math.min(USUAL_RANK, lora.maxRank);
}
