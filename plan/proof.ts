/** What the proof step measured on a running service; made by `bootstrap/host/proof.sh`. Plain data. */
export interface Proof {
  readonly generated: { readonly text: string; readonly tokens: number; readonly seconds: number };
  /** Names that the API answers to: the base model and its adapters. */
  readonly models: readonly string[];
  /** As `/v1/models` reports it. */
  readonly maxModelLen?: number;
  /** Tokens that the KV cache of one replica holds, as vLLM reports it. */
  readonly kvCacheTokens?: number;
  /** Counted from the worker processes, never read from the arguments. */
  readonly tensorParallel?: number;
  readonly replicas?: number;
  readonly workers: readonly ProofWorker[];
  /** Empty on a host that serves on the CPU. */
  readonly gpus: readonly ProofGpu[];
  readonly tokensPerSecond?: number;
  /** The gateway that was in front, as its step told. The fingerprint is its certificate's SHA-256. */
  readonly gateway?: { readonly unitId: string; readonly nginxVersion: string; readonly fingerprint?: string };
  /** One tiny job through the whole way: a step trained, saved, loaded into vLLM, sampled. Absent where it was not tried. */
  readonly training?: { readonly status: "healthy" | "failed"; readonly seconds: number; readonly detail: string };
}

export interface ProofWorker {
  readonly pid: number;
  readonly rank: number;
  readonly gpuIndex?: number;
}

export interface ProofGpu {
  readonly index: number;
  /** Memory of this service's own processes, as `nvidia-smi` reports it. */
  readonly servingGiB: number;
  /** The same of the trainer's. */
  readonly trainingGiB?: number;
  readonly totalGiB: number;
  readonly freeGiB: number;
}
