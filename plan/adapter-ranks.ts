/** The values of vLLM's `--max-lora-rank` (0.26 to 0.33). */
export const ADAPTER_RANKS = [1, 8, 16, 32, 64, 128, 256, 320, 512] as const;

/** The allowed rank nearest to the one asked for; the larger one at equal distance, since an adapter must fit its slot. */
export function nearestAdapterRank(rank: number): number {
  return ADAPTER_RANKS.reduce<number>(
    (best, allowed) => (Math.abs(allowed - rank) <= Math.abs(best - rank) ? allowed : best),
    ADAPTER_RANKS[0],
  );
}

/** The smallest allowed rank that holds an adapter of the given one. */
export function nextAdapterRank(rank: number): number {
  return ADAPTER_RANKS.find((allowed) => allowed >= rank) ?? Math.max(...ADAPTER_RANKS);
}
