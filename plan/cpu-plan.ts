import { planCost } from "./cost";
import { headSizeProblem, LISTED_HEAD_SIZES, memoryProblem, sizeProblems, trainingProblem } from "./cpu-problems";
import { diskNeed, diskProblems } from "./disk";
import type { HostFacts } from "./facts";
import type { Attempt } from "./gpu-plan";
import { adapterSlotsGiB, BYTES_PER_GIB, kvBytesPerToken, weightsGiB, type ServingShape } from "./memory-model";
import { servingDtype } from "./model-problems";
import type { LedgerPart, Plan, PlanRequest } from "./plan";
import { commonFields, startupOf } from "./plan-common";
import type { Settings } from "./settings";
import { adaptersMemoryMib } from "./training-checkpoints";
import { cpuTrainerParts, cpuTrainerProblem, residentParts } from "./training-cpu";
import { trainingPort } from "./training-port";

const DEFAULT_CACHE_TOKENS = 65_536;
/** vLLM's block size on the CPU. */
const BLOCK_TOKENS = 128;
/** Python, PyTorch and their buffers in each process, at 16 bits; a 32-bit run took 2.2 GB in two processes. Measured November 2026. */
const PROCESS_GIB = 1.2;

/** Plans serving on the CPU. Sizes depend on the machine's total memory, so that the plan is the same whatever else runs just now. */
export function planOnCpu(request: PlanRequest, host: HostFacts): Attempt {
  const { settings, shape } = request;
  const replicas = settings.replicas === "auto" ? 1 : settings.replicas;
  const serving = servingShape(request);
  const workers = serving.tensorParallel * serving.pipelineParallel * replicas;
  const tokens = cacheTokens(serving, settings, host, workers);
  const kvCacheBytes = Math.max(0, tokens) * kvBytesPerToken(serving);
  const parts = memoryParts(serving, kvCacheBytes, workers, replicas);
  const trainer = cpuTrainerParts(request, host);
  const disk = diskNeed(settings, shape, "cpu");
  const wrongSizes = sizeProblems(request, host, workers);
  const problems = [
    ...wrongSizes,
    headSizeProblem(request),
    // Memory for sizes that can't be is nobody's concern.
    wrongSizes.length > 0
      ? undefined
      : memoryProblem(sum([...parts, ...residentParts(trainer)]), tokens, host, settings),
    ...diskProblems(disk, host),
    trainingProblem(settings) ?? cpuTrainerProblem(trainer, request, host),
  ].filter((problem) => problem !== undefined);
  if (problems.length > 0) return { problems };

  const maxModelLen = settings.serving.maxModelLen ?? Math.min(shape.maxPositions, tokens);
  const { tensorParallel, enforceEager, dtype } = serving;
  const plan: Plan = {
    ...commonFields(request),
    verdict: tokens >= Math.min(DEFAULT_CACHE_TOKENS, 2 * maxModelLen) ? "fits" : "tight",
    device: "cpu",
    gpuIndices: [],
    tensorParallel,
    replicas,
    perGpu: [],
    host: hostLedger(host.memoryTotalGiB, parts, trainer),
    kvCacheBytes,
    kvCacheTokens: tokens,
    maxModelLen,
    dtype,
    enforceEager,
    training: {
      backend: settings.training.backend,
      tensorParallel: 1,
      port: trainingPort(settings),
      adaptersMib: adaptersMemoryMib(settings, shape, host),
    },
    startup: startupOf(request, { device: "cpu", enforceEager, tensorParallel, replicas }),
    disk,
    cost: planCost(settings, request.pricePerHourUsd),
    reasons: reasonsFor(settings, host, tensorParallel),
    warnings: warningsFor(request),
  };
  return { plan, problems: [] };
}

function servingShape({ settings, shape }: PlanRequest): ServingShape {
  return {
    shape,
    dtype: servingDtype(settings, shape, []),
    tensorParallel: settings.tensorParallel === "auto" ? 1 : settings.tensorParallel,
    pipelineParallel: settings.pipelineParallel,
    ownAllReduce: false,
    lora: settings.lora,
    enforceEager: settings.serving.enforceEager ?? true,
    maxBatchedTokens: 2048,
    maxSequences: 128,
  };
}

/** 65 536 tokens, or one request of the length that was asked for if that is more, or what serving's share of the memory holds if that is less. */
function cacheTokens(serving: ServingShape, settings: Settings, host: HostFacts, workers: number): number {
  const wanted = Math.max(DEFAULT_CACHE_TOKENS, settings.serving.maxModelLen ?? 0);
  const replicas = workers / serving.tensorParallel / serving.pipelineParallel;
  const othersGiB = sum(memoryParts(serving, 0, workers, replicas));
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

function hostLedger(
  totalGiB: number,
  serving: readonly LedgerPart[],
  training: readonly LedgerPart[],
): NonNullable<Plan["host"]> {
  const servingGiB = sum(serving);
  const trainingGiB = sum(training);
  const freeGiB = rounded(totalGiB - servingGiB - trainingGiB);
  const name = training.length === 0 ? "not used by serving" : "not used by either";
  return {
    totalGiB: rounded(totalGiB),
    servingGiB: rounded(servingGiB),
    trainingGiB: rounded(trainingGiB),
    freeGiB,
    parts: [...serving, ...training, { side: "free", name, sizeGiB: freeGiB }],
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

function sum(parts: readonly LedgerPart[]): number {
  return parts.reduce((total, { sizeGiB }) => total + sizeGiB, 0);
}

function rounded(sizeGiB: number): number {
  return Math.round(sizeGiB * 1000) / 1000;
}
