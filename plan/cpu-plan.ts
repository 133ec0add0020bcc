import { planCost } from "./cost";
import { diskNeed, diskProblem } from "./disk";
import type { HostFacts } from "./facts";
import type { Attempt } from "./gpu-plan";
import { adapterSlotsGiB, BYTES_PER_GIB, kvBytesPerToken, weightsGiB, type ServingShape } from "./memory-model";
import { servingDtype } from "./model-problems";
import { legalVllmSizes, vllmObjections } from "./parallel";
import { listed } from "./parallel-choice";
import type { LedgerPart, Plan, PlanRequest } from "./plan";
import type { Problem } from "./problem";
import type { Settings } from "./settings";
import { startupBudget } from "./time";

/** Head sizes that vLLM's CPU engine was seen to work with (0.32.0). With another, /health says yes and the first request kills the engine. */
const TRIED_HEAD_SIZES: readonly number[] = [32, 64, 80, 96, 112, 128];
/** Head sizes that its source lists as well. */
const LISTED_HEAD_SIZES: readonly number[] = [160, 192, 224, 256, 512];

const DEFAULT_CACHE_TOKENS = 65_536;
/** vLLM's block size on the CPU. */
const BLOCK_TOKENS = 128;
/** Python, PyTorch and their buffers in each process, at 16 bits; a 32-bit run took 2.2 GB in two processes. Measured November 2026. */
const PROCESS_GIB = 1.2;

/** Plans serving on the CPU. Sizes depend on the machine's total memory, so that the plan is the same whatever else runs just now. */
export function planOnCpu(request: PlanRequest, host: HostFacts): Attempt {
  const { settings, shape } = request;
  const tensorParallel = settings.tensorParallel === "auto" ? 1 : settings.tensorParallel;
  const replicas = settings.replicas === "auto" ? 1 : settings.replicas;
  const serving: ServingShape = {
    shape,
    dtype: servingDtype(settings, shape, []),
    tensorParallel,
    pipelineParallel: settings.pipelineParallel,
    lora: settings.lora,
    enforceEager: settings.serving.enforceEager ?? true,
    maxBatchedTokens: 2048,
    maxSequences: 128,
  };
  const workers = tensorParallel * settings.pipelineParallel * replicas;
  const tokens = cacheTokens(serving, settings, host, workers);
  const kvCacheBytes = Math.max(0, tokens) * kvBytesPerToken(serving);
  const parts = memoryParts(serving, kvCacheBytes, workers, replicas);
  const neededGiB = parts.reduce((total, { sizeGiB }) => total + sizeGiB, 0);
  const disk = diskNeed(settings, shape, "cpu");
  const maxModelLen = settings.serving.maxModelLen ?? Math.min(shape.maxPositions, Math.max(tokens, 0));
  const problems = [
    ...sizeProblems(request, host, workers),
    headSizeProblem(request),
    memoryProblem(neededGiB, tokens, host, settings),
    diskProblem(disk, host),
    trainingProblem(settings),
  ].filter((problem) => problem !== undefined);
  if (problems.length > 0) return { problems };

  const plan: Plan = {
    verdict: tokens >= Math.min(DEFAULT_CACHE_TOKENS, 2 * maxModelLen) ? "fits" : "tight",
    model: settings.model,
    revision: settings.revision,
    architecture: shape.architecture,
    parameters: shape.parameters,
    device: "cpu",
    gpuIndices: [],
    tensorParallel,
    replicas,
    pipelineParallel: settings.pipelineParallel,
    split: settings.split,
    perGpu: [],
    host: hostLedger(host.memoryTotalGiB, parts),
    kvCacheBytes,
    kvCacheTokens: tokens,
    maxModelLen,
    dtype: serving.dtype,
    enforceEager: serving.enforceEager,
    trustRemoteCode: settings.serving.trustRemoteCode,
    lora: settings.lora,
    training: { backend: settings.training.backend, tensorParallel: 1 },
    port: settings.port,
    startup: startupBudget({
      shape,
      device: "cpu",
      enforceEager: serving.enforceEager,
      workersPerReplica: tensorParallel,
      replicas,
      ...(settings.serving.startupTimeoutSeconds !== undefined && {
        timeoutSeconds: settings.serving.startupTimeoutSeconds,
      }),
    }),
    disk,
    cost: planCost(settings, request.pricePerHourUsd),
    reasons: reasonsFor(settings, host, tensorParallel),
    warnings: warningsFor(request),
  };
  return { plan, problems: [] };
}

/** 65 536 tokens, or one request of the length that was asked for if that is more, or what serving's share of the memory holds if that is less. */
function cacheTokens(serving: ServingShape, settings: Settings, host: HostFacts, workers: number): number {
  const wanted = Math.max(DEFAULT_CACHE_TOKENS, settings.serving.maxModelLen ?? 0);
  const others = memoryParts(serving, 0, workers, workers / serving.tensorParallel / serving.pipelineParallel);
  const othersGiB = others.reduce((total, { sizeGiB }) => total + sizeGiB, 0);
  const roomBytes = ((settings.split.serving * host.memoryTotalGiB - othersGiB) * BYTES_PER_GIB) / workers;
  const held = Math.floor(roomBytes / kvBytesPerToken(serving));
  return Math.floor(Math.min(wanted, held) / BLOCK_TOKENS) * BLOCK_TOKENS;
}

/** Memory of all processes together. Each replica is an engine, with workers of its own when it is spread; one process answers the API. */
function memoryParts(serving: ServingShape, kvCacheBytes: number, workers: number, replicas: number): LedgerPart[] {
  const workersPerReplica = workers / replicas;
  const processes = 1 + replicas * (workersPerReplica > 1 ? 1 + workersPerReplica : 1);
  return [
    { name: "weights", sizeGiB: workers * weightsGiB(serving) },
    { name: "adapter slots", sizeGiB: workers * adapterSlotsGiB(serving) },
    { name: "KV cache", sizeGiB: (workers * kvCacheBytes) / BYTES_PER_GIB },
    { name: `${processes} processes`, sizeGiB: processes * PROCESS_GIB },
  ]
    .filter(({ sizeGiB }) => sizeGiB > 0)
    .map(({ name, sizeGiB }) => ({ side: "serving", name, sizeGiB: rounded(sizeGiB) }));
}

function hostLedger(totalGiB: number, parts: readonly LedgerPart[]): Plan["host"] {
  const servingGiB = parts.reduce((total, { sizeGiB }) => total + sizeGiB, 0);
  const freeGiB = rounded(totalGiB - servingGiB);
  return {
    totalGiB: rounded(totalGiB),
    servingGiB: rounded(servingGiB),
    freeGiB,
    parts: [...parts, { side: "free", name: "not used by serving", sizeGiB: freeGiB }],
  };
}

function sizeProblems({ settings, shape }: PlanRequest, host: HostFacts, workers: number): Problem[] {
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

function headSizeProblem({ shape }: PlanRequest): Problem | undefined {
  if (TRIED_HEAD_SIZES.includes(shape.headDim) || LISTED_HEAD_SIZES.includes(shape.headDim)) return undefined;
  return {
    setting: "model",
    what: `${shape.id} has attention heads of size ${shape.headDim}, which vLLM can't run on the CPU: it would start and die at the first request`,
    value: String(shape.headDim),
    allowed: listed([...TRIED_HEAD_SIZES, ...LISTED_HEAD_SIZES].map(String), "or"),
    fix: "choose another model, or a machine with a GPU",
  };
}

function memoryProblem(neededGiB: number, tokens: number, host: HostFacts, settings: Settings): Problem | undefined {
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

function trainingProblem({ training }: Settings): Problem | undefined {
  if (training.backend !== "megatron-bridge") return undefined;
  return {
    setting: "training.backend",
    what: "Megatron-Bridge needs GPUs, and this plan serves on the CPU",
    value: training.backend,
    allowed: "huggingface or off",
    fix: "set `training.backend` to huggingface",
  };
}

function reasonsFor(settings: Settings, host: HostFacts, tensorParallel: number): string[] {
  const why = settings.gpus === 0 ? "`gpus` is 0" : `no GPU answers on ${host.name}`;
  return [
    `the CPU: ${why}`,
    ...(settings.tensorParallel === "auto"
      ? [`tensor parallel ${tensorParallel}: on one machine's cores a second process only adds copying`]
      : []),
  ];
}

function warningsFor({ settings, shape }: PlanRequest): string[] {
  return [
    ...(LISTED_HEAD_SIZES.includes(shape.headDim)
      ? [`attention heads of size ${shape.headDim} are in vLLM's list for the CPU, and nobody has tried them here`]
      : []),
    ...(settings.gpuType === undefined
      ? []
      : [`\`gpuType\` ${settings.gpuType} is not used: this plan serves on the CPU`]),
    ...(settings.serving.trustRemoteCode ? ["the model's own Python code will run with this user's rights"] : []),
  ];
}

function rounded(sizeGiB: number): number {
  return Math.round(sizeGiB * 1000) / 1000;
}
