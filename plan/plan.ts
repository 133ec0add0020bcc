import type { HostFacts } from "./facts";
import type { PlannedFootprint } from "./footprint";
import type { ModelShape } from "./model-shape";
import type { Problem } from "./problem";
import type { Settings } from "./settings";
import type { Split } from "./split";

export type Dtype = "bfloat16" | "float16" | "float32";

/** One thing that takes memory, on one GPU or on the host. */
export interface LedgerPart {
  readonly side: "serving" | "training" | "free";
  readonly name: string;
  readonly sizeGiB: number;
}

/** Where the memory of one GPU goes; the parts add up to the total. */
export interface GpuLedger {
  readonly index: number;
  /** As `nvidia-smi` reports it. */
  readonly totalGiB: number;
  readonly servingGiB: number;
  readonly trainingGiB: number;
  readonly freeGiB: number;
  readonly parts: readonly LedgerPart[];
}

/** Where the host's memory goes when it serves on the CPU. Of the total, not of what is free just now, so that a plan stays what it was. */
export interface HostLedger {
  readonly totalGiB: number;
  readonly servingGiB: number;
  readonly trainingGiB: number;
  readonly freeGiB: number;
  readonly parts: readonly LedgerPart[];
}

export interface TrainingPlan {
  readonly backend: "megatron-bridge" | "huggingface" | "off";
  /** Over how many GPUs the trainer spreads the model; 1 when nothing trains. */
  readonly tensorParallel: number;
  /** Of the training API, on loopback. */
  readonly port: number;
  /** Limit of the memory file system that holds adapters. */
  readonly adaptersMib: number;
}

/** Room on the host's disks, in GiB. */
export interface DiskPlan {
  readonly runtimeGiB: number;
  readonly weightsGiB: number;
  /** The trainer's environment; 0 when nothing trains. */
  readonly trainerGiB: number;
  /** Adapters and checkpoints of ten users' jobs. */
  readonly checkpointsGiB: number;
  readonly totalGiB: number;
}

/** What is going to be done, as plain data: it prints, it diffs, it is compared with what is measured. */
export interface Plan {
  readonly verdict: "fits" | "tight";
  readonly model: string;
  readonly revision: string;
  readonly architecture: string;
  readonly parameters: number;
  readonly device: "cuda" | "cpu";
  /** The GPUs in use, as `nvidia-smi` numbers them; empty on the CPU. */
  readonly gpuIndices: readonly number[];
  readonly gpuModel?: string;
  readonly tensorParallel: number;
  readonly replicas: number;
  readonly pipelineParallel: number;
  readonly split: Split;
  /** One entry for each GPU in use; empty on the CPU. */
  readonly perGpu: readonly GpuLedger[];
  /** Only on the CPU. */
  readonly host?: HostLedger;
  /** What the KV cache was worked out from; absent on the CPU. */
  readonly footprint?: PlannedFootprint;
  /** KV cache of each worker process. */
  readonly kvCacheBytes: number;
  /** Tokens that the KV cache of one replica holds. */
  readonly kvCacheTokens: number;
  readonly maxModelLen: number;
  readonly dtype: Dtype;
  readonly enforceEager: boolean;
  readonly trustRemoteCode: boolean;
  readonly lora: { readonly enabled: boolean; readonly maxAdapters: number; readonly maxRank: number };
  readonly training: TrainingPlan;
  /** Of the API: the gateway's, or vLLM's own where there is none. */
  readonly port: number;
  /** Of vLLM itself, on loopback. */
  readonly servingPort: number;
  readonly startup: { readonly expectedSeconds: number; readonly timeoutSeconds: number };
  readonly disk: DiskPlan;
  readonly cost: { readonly pricePerHourUsd?: number; readonly capUsd?: number; readonly ttlSeconds?: number };
  /** Why the plan is as it is, for people. */
  readonly reasons: readonly string[];
  readonly warnings: readonly string[];
}

/** Other settings with which the same model would work; verified by planning them. */
export interface Alternative {
  /** Settings to change, by their full names, e.g. `{ "tensorParallel": 1 }`. */
  readonly change: Readonly<Record<string, unknown>>;
  readonly verdict: "fits" | "tight";
  /** One line for people. */
  readonly text: string;
}

export type PlanResult =
  | { readonly verdict: "fits" | "tight"; readonly plan: Plan; readonly problems: readonly [] }
  | {
      readonly verdict: "does not fit";
      readonly plan?: undefined;
      readonly problems: readonly Problem[];
      /** Nearest settings that do fit, best first. */
      readonly alternatives: readonly Alternative[];
    };

export interface PlanRequest {
  readonly settings: Settings;
  readonly shape: ModelShape;
  /** What the machines are; one host for `target: local`. */
  readonly hosts: readonly HostFacts[];
  /** Price of a rented machine in US dollars an hour; absent for machines that are the user's own. */
  readonly pricePerHourUsd?: number;
}
