import type { Plan, Proof } from "../../plan";

/** A proof that keeps every promise of a plan. */
export function goodProof(of: Plan): Proof {
  return {
    generated: { text: "The capital of France is Paris.", tokens: 8, seconds: 0.4 },
    models: [of.model],
    maxModelLen: of.maxModelLen,
    kvCacheTokens: of.kvCacheTokens,
    tensorParallel: of.tensorParallel,
    replicas: of.replicas,
    workers: of.gpuIndices.map((gpuIndex, rank) => ({ pid: 100 + rank, rank, gpuIndex })),
    gpus: of.perGpu.map(({ index, servingGiB, totalGiB }) => ({
      index,
      servingGiB,
      totalGiB,
      freeGiB: totalGiB - servingGiB,
    })),
    tokensPerSecond: 380,
  };
}
