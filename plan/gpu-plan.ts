import type { Candidate, GpuContext } from "./candidate";
import { planCost, priceProblem } from "./cost";
import { diskNeed, diskProblems } from "./disk";
import type { GpuFacts, HostFacts } from "./facts";
import { findGpuType } from "./gpu-types";
import { footprintReasons } from "./footprint";
import { gpuLedger } from "./ledger";
import { dtypeProblem, servingDtype } from "./model-problems";
import { chooseParallel, gpusOf, isMixture } from "./parallel-choice";
import type { Plan, PlanRequest } from "./plan";
import type { Problem } from "./problem";
import { commonFields, startupOf } from "./plan-common";
import type { Settings } from "./settings";
import { adaptersMemoryMib } from "./training-checkpoints";
import { trainingPort } from "./training-port";

/** A model below this gains nothing from tensor parallelism (the original guide, "Slow multi-GPU performance"). */
const SMALL_MODEL_PARAMETERS = 500e6;
/** A desktop's own use of a GPU; more than that is somebody's program. */
const TOLERATED_USE_GIB = 0.5;

export type Attempt =
  | { readonly plan: Plan; readonly problems: readonly [] }
  | { readonly plan?: undefined; readonly problems: readonly Problem[] };

/** Plans serving on GPUs. */
export function planOnGpus(request: PlanRequest, host: HostFacts, gpus: readonly GpuFacts[]): Attempt {
  const { settings, shape } = request;
  const context: GpuContext = {
    settings,
    shape,
    host,
    gpus,
    dtype: servingDtype(settings, shape, gpus),
    gpuTotalGiB: Math.min(...gpus.map((gpu) => gpu.memoryGiB)),
  };
  const disk = diskNeed(settings, shape, "cuda");
  const choice = chooseParallel(context);
  const problems = [
    ...gpus.flatMap((gpu) => useProblem(gpu, settings) ?? []),
    dtypeProblem(settings, gpus),
    ...diskProblems(disk, host),
    priceProblem(settings, request.pricePerHourUsd),
    ...choice.problems,
  ].filter((problem) => problem !== undefined);
  if (choice.chosen === undefined || problems.length > 0) return { problems };
  return {
    plan: {
      ...describe(request, context, choice.chosen),
      disk,
      cost: planCost(settings, request.pricePerHourUsd),
      reasons: [...choice.reasons, ...footprintReasons({ footprint: choice.chosen.footprint.planned })],
    },
    problems: [],
  };
}

function describe(
  request: PlanRequest,
  context: GpuContext,
  chosen: Candidate,
): Omit<Plan, "disk" | "cost" | "reasons"> {
  const { settings, gpus, dtype } = context;
  const { tensorParallel, replicas, kv, serving, footprint, trainer } = chosen;
  const { enforceEager } = serving;
  const used = gpus.slice(0, tensorParallel * replicas * settings.pipelineParallel);
  return {
    ...commonFields(request),
    verdict: chosen.verdict === "fits" ? "fits" : "tight",
    device: "cuda",
    gpuIndices: used.map((gpu) => gpu.index),
    ...(used[0] && { gpuModel: used[0].model }),
    tensorParallel,
    replicas,
    perGpu: used.map(({ index, memoryGiB }, position) =>
      gpuLedger({
        index,
        totalGiB: memoryGiB,
        serving: footprint.parts,
        kvCacheBytes: kv.bytes,
        split: settings.split,
        // Its ranks are on the first GPUs.
        ...(trainer && position < trainer.tensorParallel && { trainer }),
      }),
    ),
    footprint: footprint.planned,
    kvCacheBytes: kv.bytes,
    kvCacheTokens: kv.tokens,
    maxModelLen: chosen.maxModelLen,
    dtype,
    enforceEager,
    training: {
      backend: settings.training.backend,
      tensorParallel: trainer?.tensorParallel ?? 1,
      port: trainingPort(settings),
      adaptersMib: adaptersMemoryMib(settings, context.shape, context.host),
    },
    startup: startupOf(request, { device: "cuda", enforceEager, tensorParallel, replicas }),
    warnings: warningsFor(context, chosen, used),
  };
}

function useProblem(gpu: GpuFacts, { split, training }: Settings): Problem | undefined {
  const shares = split.serving + (training.backend === "off" ? 0 : split.training);
  const leftGiB = Math.max(TOLERATED_USE_GIB, gpu.memoryGiB * (1 - shares));
  if (gpu.memoryUsedGiB <= leftGiB) return undefined;
  return {
    setting: "devices",
    what: `other programs use too much of GPU ${gpu.index}`,
    value: `${gpu.memoryUsedGiB.toFixed(1)} of ${gpu.memoryGiB.toFixed(1)} GiB in use`,
    allowed: `at most ${leftGiB.toFixed(1)} GiB beside the shares that were chosen`,
    fix: "stop them (`nvidia-smi` lists them), choose other `devices`, or a smaller `split`",
  };
}

function warningsFor(
  { settings, shape, host, gpus, gpuTotalGiB }: GpuContext,
  chosen: Candidate,
  used: readonly GpuFacts[],
): string[] {
  const { tensorParallel } = chosen;
  const spread = tensorParallel > 1;
  const wantedType = settings.gpuType === undefined ? undefined : findGpuType(settings.gpuType);
  const warning = (holds: boolean, text: string) => (holds ? [text] : []);
  return [
    ...warning(
      spread && shape.parameters < SMALL_MODEL_PARAMETERS,
      `tensor parallel ${tensorParallel} slows a model of ${Math.round(shape.parameters / 1e6)} M parameters down: below 500 M the communication costs more than it gains`,
    ),
    ...warning(
      spread && host.gpuLink !== "nvlink" && host.gpuLink !== "unknown",
      `the GPUs have no NVLink between them (${host.gpuLink}): tensor parallel ${tensorParallel} will wait for the bus; replicas would not`,
    ),
    ...warning(
      spread && host.peerAccess === false,
      "the GPUs can't read each other's memory: vLLM's own all-reduce is switched off",
    ),
    ...warning(
      isMixture(shape) && chosen.replicas > 1,
      "replicas of a mixture of experts are no independent copies in vLLM: they share out the experts, and the memory ledger does not know that",
    ),
    ...warning(
      used.length < gpus.length,
      `${gpusOf(gpus.length - used.length)} stay${gpus.length - used.length === 1 ? "s" : ""} idle: no layout uses all ${gpus.length}`,
    ),
    ...warning(
      gpus.some((gpu) => gpu.memoryGiB - gpuTotalGiB > 0.5),
      `the GPUs differ in memory: each is planned as the smallest, ${gpuTotalGiB.toFixed(1)} GiB`,
    ),
    ...warning(
      wantedType !== undefined && used[0] !== undefined && Math.abs(wantedType.memoryGiB - used[0].memoryGiB) > 1,
      `planned for the machine's ${used[0]?.model}, not for the ${settings.gpuType} of the settings`,
    ),
    ...warning(
      chosen.verdict === "tight",
      `tight: the KV cache holds ${chosen.kv.tokens} tokens, so only ${Math.max(1, Math.floor(chosen.kv.tokens / chosen.maxModelLen))} request(s) of full length at once`,
    ),
    ...warning(
      settings.training.backend !== "off",
      "memory is split, compute is not: while it trains, serving was measured at a third of its speed (2 x H100, November 2026)",
    ),
    ...warning(settings.serving.trustRemoteCode, "the model's own Python code will run with this user's rights"),
  ];
}
