import type { HostFacts } from "./facts";
import type { Plan } from "./plan";

type Environment = Record<string, string>;

/** The weights are on the host by now: nothing has to be fetched, and nothing is reported. */
export function offlineEnvironment({ lora }: Plan): Environment {
  return {
    HF_HUB_OFFLINE: "1",
    VLLM_NO_USAGE_STATS: "1",
    DO_NOT_TRACK: "1",
    // Progress lines must come as they are written.
    PYTHONUNBUFFERED: "1",
    ...(lora.enabled && { VLLM_ALLOW_RUNTIME_LORA_UPDATING: "True" }),
  };
}

/**
 * Which GPUs, numbered as `nvidia-smi` does (CUDA's own order is fastest first), and no symmetric memory where GPUs can't reach each other or
 * multicast is off: vLLM would hang or die in it.
 */
export function cudaEnvironment(plan: Plan, { peerAccess, environment }: HostFacts): Environment {
  const multicastIsOff =
    environment["NCCL_NVLS_ENABLE"] === "0" ||
    environment["TORCH_SYMM_MEM_DISABLE_MULTICAST"] === "1" ||
    environment["NVSHMEM_DISABLE_NVLS"] === "1";
  return {
    CUDA_DEVICE_ORDER: "PCI_BUS_ID",
    CUDA_VISIBLE_DEVICES: plan.gpuIndices.join(","),
    ...((peerAccess === false || multicastIsOff) && { VLLM_ALLREDUCE_USE_SYMM_MEM: "0" }),
  };
}

/** The cores of each worker, all of them given out: vLLM's own choice would leave some of few cores unused. */
export function cpuEnvironment(plan: Plan, { cpuCores, cpuIds }: HostFacts): Environment {
  const ids = cpuIds ?? Array.from({ length: cpuCores }, (_, core) => core);
  const workers = plan.tensorParallel * plan.pipelineParallel * plan.replicas;
  // More workers than cores: the planner refuses it, and vLLM's own choice is better than an empty list.
  if (workers > ids.length) return {};
  return { VLLM_CPU_OMP_THREADS_BIND: shareOut(ids, workers).map(rangesOf).join("|") };
}

/** Neighbours stay together; the first ones get one more where it does not come out even. */
function shareOut(ids: readonly number[], workers: number): number[][] {
  return Array.from({ length: workers }, (_, worker) =>
    ids.slice(Math.ceil((worker * ids.length) / workers), Math.ceil(((worker + 1) * ids.length) / workers)),
  );
}

/** `0-3,8` for 0, 1, 2, 3 and 8. */
function rangesOf(ids: readonly number[]): string {
  const ranges: [number, number][] = [];
  for (const id of ids) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === id - 1) last[1] = id;
    else ranges.push([id, id]);
  }
  return ranges.map(([from, to]) => (from === to ? String(from) : `${from}-${to}`)).join(",");
}
