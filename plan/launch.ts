import type { HostFacts } from "./facts";
import { ArgumentList } from "./launch-arguments";
import { cpuEnvironment, cudaEnvironment, offlineEnvironment } from "./launch-environment";
import { cudaTotalGiB } from "./ledger";
import type { GpuLedger, Plan } from "./plan";

/** What is known of an installed vLLM. */
export interface RuntimeFacts {
  /** Path of its Python interpreter. */
  readonly python: string;
  readonly vllmVersion: string;
  readonly device: "cuda" | "cpu";
  /** Option names found in its `--help=all`, e.g. `--kv-cache-memory-bytes`. */
  readonly flags: readonly string[];
  /** Where vLLM is in an image; `python` is then the host's own, which watches over the container. */
  readonly container?: ContainerFacts;
}

/** A container image with vLLM and the engine that runs it. */
export interface ContainerFacts {
  /** Path of docker or podman on the host. */
  readonly engine: string;
  readonly kind: "docker" | "podman";
  readonly version: string;
  readonly rootless: boolean;
  /** Id of the image; it never means another one, as a tag may. */
  readonly image: string;
  /** What was asked for: a reference, or the path of an archive on the host. */
  readonly reference: string;
  /** `name@sha256:…` where the image came from a registry, else empty or the engine's own. */
  readonly digest: string;
  /** Options of the engine's `run` that hand out GPUs and leave the control groups to the unit. */
  readonly options: readonly string[];
  /** The interpreter in the image. */
  readonly python: string;
}

export interface LaunchOptions {
  /** Directory of the weights on the host. */
  readonly modelPath: string;
  /** Name that clients call the model by. */
  readonly servedModelName: string;
  /** Address to listen on. */
  readonly host: string;
  readonly port: number;
  readonly extraArgs: readonly string[];
  readonly extraEnv: Readonly<Record<string, string>>;
  readonly facts: HostFacts;
}

/** The container that `bootstrap/host/supervise_container.py` starts. */
export type LaunchContainer = Pick<ContainerFacts, "engine" | "kind" | "rootless" | "image" | "options"> & {
  readonly device: RuntimeFacts["device"];
  /** Folders of the host that it reads, at the same paths. */
  readonly mounts: readonly string[];
};

export interface Launch {
  /** Starts with the interpreter, which is in the image where there is a container. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly container?: LaunchContainer;
  /** What the runtime can't do as planned. */
  readonly warnings: readonly string[];
}

/**
 * How vLLM is started so that it does what was planned. `vllm serve` is not used: vLLM for CPU installs no package of that name.
 * An option that this vLLM does not know is left out, with a warning where that changes something.
 * The API key is in neither: it comes as VLLM_API_KEY out of a file that only its user can read.
 */
export function launchServing(plan: Plan, runtime: RuntimeFacts, options: LaunchOptions): Launch {
  const args = new ArgumentList(runtime.flags);
  addIdentity(args, options);
  addParallelism(args, plan, options.facts);
  addModelOptions(args, plan);
  const memory = runtime.device === "cuda" ? addGpuMemory(args, plan) : addHostMemory(args, plan);
  addAdapters(args, plan);
  const mismatch =
    runtime.device === plan.device
      ? []
      : [`planned for ${plan.device}, but the vLLM ${runtime.vllmVersion} that is installed runs on ${runtime.device}`];
  return {
    argv: [
      runtime.container?.python ?? runtime.python,
      "-m",
      "vllm.entrypoints.openai.api_server",
      ...args.list,
      ...options.extraArgs,
    ],
    env: {
      ...options.facts.environment,
      ...offlineEnvironment(plan),
      ...(runtime.device === "cuda" ? cudaEnvironment(plan, options.facts) : cpuEnvironment(plan, options.facts)),
      ...memory,
      ...options.extraEnv,
    },
    ...(runtime.container && { container: launchContainer(runtime.container, runtime.device, options) }),
    warnings: [...mismatch, ...args.warnings],
  };
}

function launchContainer(
  { engine, kind, rootless, image, options }: ContainerFacts,
  device: RuntimeFacts["device"],
  { modelPath }: LaunchOptions,
): LaunchContainer {
  return { engine, kind, rootless, image, options, device, mounts: [modelPath] };
}

function addIdentity(args: ArgumentList, options: LaunchOptions): void {
  args.require("--model", options.modelPath);
  args.require("--served-model-name", options.servedModelName);
  args.require("--host", options.host);
  args.require("--port", String(options.port));
}

function addParallelism(args: ArgumentList, plan: Plan, facts: HostFacts): void {
  args.require("--tensor-parallel-size", String(plan.tensorParallel));
  if (plan.pipelineParallel > 1) args.require("--pipeline-parallel-size", String(plan.pipelineParallel));
  if (plan.replicas > 1) args.require("--data-parallel-size", String(plan.replicas));
  // Without peer access it dies while graphs are captured (custom_all_reduce.cuh:434 'invalid argument'), minutes after the start.
  if (plan.device === "cuda" && plan.tensorParallel > 1 && facts.peerAccess === false) {
    args.add("--disable-custom-all-reduce", [], "vLLM may die while it captures CUDA graphs");
  }
}

function addModelOptions(args: ArgumentList, plan: Plan): void {
  args.require("--dtype", plan.dtype);
  args.require("--max-model-len", String(plan.maxModelLen));
  if (plan.enforceEager) args.add("--enforce-eager", [], "the start takes longer");
  if (plan.trustRemoteCode) args.require("--trust-remote-code");
}

function addAdapters(args: ArgumentList, { lora }: Plan): void {
  if (!lora.enabled) return;
  args.require("--enable-lora");
  args.require("--max-loras", String(lora.maxAdapters));
  args.require("--max-lora-rank", String(lora.maxRank));
}

/**
 * The KV cache by its size, so that vLLM's whole footprint is the share that was chosen. The fraction then only serves
 * vLLM's start check, which asks for that much free memory: weights, adapters and KV cache, which are always there to be had
 * beside a trainer at its cap, since contexts, graphs and activations belong to the share as well.
 */
function addGpuMemory(args: ArgumentList, plan: Plan): Record<string, string> {
  const smallest = plan.perGpu.reduce<GpuLedger | undefined>(
    (least, ledger) => (least === undefined || ledger.totalGiB < least.totalGiB ? ledger : least),
    undefined,
  );
  if (smallest === undefined) return {};
  const fractionOf = (names: readonly string[]) => {
    const sizeGiB = smallest.parts
      .filter(({ side, name }) => side === "serving" && names.includes(name))
      .reduce((sum, { sizeGiB }) => sum + sizeGiB, 0);
    return (Math.floor((sizeGiB / cudaTotalGiB(smallest.totalGiB)) * 1000) / 1000).toFixed(3);
  };
  if (args.knows("--kv-cache-memory-bytes")) {
    args.require("--kv-cache-memory-bytes", String(plan.kvCacheBytes));
    args.require("--gpu-memory-utilization", fractionOf(["weights", "adapter slots", "KV cache"]));
  } else {
    args.warn(
      "this vLLM has no --kv-cache-memory-bytes: its footprint follows from --gpu-memory-utilization and may miss the share by some percent",
    );
    args.require("--gpu-memory-utilization", fractionOf(["weights", "adapter slots", "KV cache", "activations"]));
  }
  return {};
}

function addHostMemory(args: ArgumentList, plan: Plan): Record<string, string> {
  if (args.knows("--kv-cache-memory-bytes")) {
    args.require("--kv-cache-memory-bytes", String(plan.kvCacheBytes));
    return {};
  }
  // The older way counts in whole GiB.
  const cacheGiB = Math.max(1, Math.ceil(plan.kvCacheBytes / 2 ** 30));
  args.warn(`this vLLM has no --kv-cache-memory-bytes: its KV cache is ${cacheGiB} GiB, whole GiB only`);
  return { VLLM_CPU_KVCACHE_SPACE: String(cacheGiB) };
}
