import type { HostFacts } from "./facts";
import { legalVllmSizes, vllmObjections } from "./parallel";
import { listed } from "./parallel-choice";
import type { PlanRequest } from "./plan";
import type { Problem } from "./problem";
import type { Settings } from "./settings";

/** Head sizes that vLLM's CPU engine was seen to work with (0.32.0). With another, /health says yes and the first request kills the engine. */
const TRIED_HEAD_SIZES: readonly number[] = [32, 64, 80, 96, 112, 128];
/** Head sizes that its source lists as well. */
export const LISTED_HEAD_SIZES: readonly number[] = [160, 192, 224, 256, 512];

export function sizeProblems({ settings, shape }: PlanRequest, host: HostFacts, workers: number): Problem[] {
  const problems: Problem[] = [];
  const size = settings.tensorParallel;
  const objections = size === "auto" ? [] : vllmObjections(shape, size);
  if (objections.length > 0) {
    problems.push({
      setting: "tensorParallel",
      what: `${shape.id} has ${listed(objections)}, which can't be divided by it`,
      value: String(size),
      allowed: listed(legalVllmSizes(shape, 8).map(String), "or"),
      fix: "set `tensorParallel` to auto",
    });
  }
  if (workers > host.cpuCores) {
    problems.push({
      setting: "tensorParallel",
      what: `needs ${workers} cores, one for each worker, and ${host.name} has ${host.cpuCores}`,
      value: `${String(settings.tensorParallel)} x ${String(settings.replicas)} replicas`,
      allowed: `a product of ${host.cpuCores} at most`,
      fix: "leave `tensorParallel` and `replicas` at auto",
    });
  }
  return problems;
}

export function headSizeProblem({ shape }: PlanRequest): Problem | undefined {
  if (TRIED_HEAD_SIZES.includes(shape.headDim) || LISTED_HEAD_SIZES.includes(shape.headDim)) return undefined;
  return {
    setting: "model",
    what: `${shape.id} has attention heads of size ${shape.headDim}, which vLLM can't run on the CPU: it would start and die at the first request`,
    value: String(shape.headDim),
    allowed: listed([...TRIED_HEAD_SIZES, ...LISTED_HEAD_SIZES].map(String), "or"),
    fix: "choose another model, or a machine with a GPU",
  };
}

export function memoryProblem(
  neededGiB: number,
  tokens: number,
  host: HostFacts,
  settings: Settings,
): Problem | undefined {
  const length = settings.serving.maxModelLen ?? 1;
  if (tokens < length) {
    return {
      setting: settings.serving.maxModelLen === undefined ? "model" : "serving.maxModelLen",
      what: `serving's share of the memory (${settings.split.serving} of ${host.memoryTotalGiB.toFixed(1)} GiB) holds ${Math.max(0, tokens)} tokens beside the model`,
      value: String(settings.serving.maxModelLen ?? settings.model),
      allowed: `at least ${length} tokens`,
      fix: "raise `split.serving`, lower `serving.maxModelLen` or `lora.maxAdapters`, or choose a smaller model",
    };
  }
  if (neededGiB <= host.memoryAvailableGiB) return undefined;
  return {
    setting: "memory",
    what: `${host.name} has too little free memory just now`,
    value: `${host.memoryAvailableGiB.toFixed(1)} GiB available`,
    allowed: `at least ${neededGiB.toFixed(1)} GiB`,
    fix: "stop other programs, lower `serving.maxModelLen` or `lora.maxAdapters`, or choose a smaller model",
  };
}

export function trainingProblem({ training }: Settings): Problem | undefined {
  if (training.backend !== "megatron-bridge") return undefined;
  return {
    setting: "training.backend",
    what: "Megatron-Bridge needs GPUs, and this plan serves on the CPU",
    value: training.backend,
    allowed: "huggingface or off",
    fix: "set `training.backend` to huggingface",
  };
}
