import type { HostFacts } from "./facts";
import type { ModelShape } from "./model-shape";
import type { Plan } from "./plan";
import type { Problem } from "./problem";
import { listed } from "./parallel-choice";
import type { Settings } from "./settings";
import { checkpointBytes } from "./training-checkpoints";
import { trainingRank } from "./training-rank";

const BYTES_PER_GIB = 2 ** 30;
/** An environment with vLLM for CPU took 5.9 GB on disk (0.32.0, November 2026). */
const CPU_RUNTIME_GIB = 5.9e9 / BYTES_PER_GIB;
/** An environment with vLLM for CUDA: its wheels and those of PyTorch and CUDA 13 unpacked; estimated, not measured. */
const CUDA_RUNTIME_GIB = 12;
/** The image of vLLM unpacked; estimated, not measured. */
const IMAGE_GIB = 25;

/** An environment of the trainer with PyTorch for the CPU took 6.5 GB (November 2026). */
const CPU_TRAINER_GIB = 6.5e9 / BYTES_PER_GIB;
/** The same for CUDA; estimated, not measured. */
const CUDA_TRAINER_GIB = 12;

export type DiskNeed = Plan["disk"];

/** Room that must be there before anything is installed: the cache's disk for all but the checkpoints, which lie in the stack's folder. */
export function diskNeed(settings: Settings, shape: ModelShape, device: Plan["device"]): DiskNeed {
  const runtimeGiB = rounded(runtimeSize(settings, device));
  const weightsGiB = rounded(weightsSize(settings.model, shape));
  const trainerGiB = rounded(trainerSize(settings, device));
  const checkpointsGiB = rounded(
    settings.training.backend === "off" ? 0 : checkpointBytes(shape, trainingRank(settings)) / BYTES_PER_GIB,
  );
  const totalGiB = rounded(runtimeGiB + weightsGiB + trainerGiB + checkpointsGiB);
  return { runtimeGiB, weightsGiB, trainerGiB, checkpointsGiB, totalGiB };
}

function trainerSize({ training }: Settings, device: Plan["device"]): number {
  if (training.backend === "off" || training.runtimePath !== undefined) return 0;
  return device === "cuda" ? CUDA_TRAINER_GIB : CPU_TRAINER_GIB;
}

/** An image lies in its engine's own storage, which the runtime step looks at; that of an archive can be told there only. */
function runtimeSize({ runtime, runtimeImage: image }: Settings, device: Plan["device"]): number {
  switch (runtime) {
    case "existing":
      return 0;
    case "container":
      return image?.startsWith("/") === true ? 0 : IMAGE_GIB;
    case "venv":
    case "archive":
      return device === "cuda" ? CUDA_RUNTIME_GIB : CPU_RUNTIME_GIB;
    default:
      return runtime satisfies never;
  }
}

/** A directory is used where it is. Anything else is downloaded or unpacked first and then put in place: twice its size. */
function weightsSize(model: string, shape: ModelShape): number {
  const isPath = /^(\/|\.{1,2}\/|~\/)/.test(model);
  const isArchive = /\.tar(\.[a-z0-9]+)?$|\.tgz$/.test(model);
  if (isPath && !isArchive) return 0;
  return (2 * shape.parameters * (shape.dtype === "float32" ? 4 : 2)) / BYTES_PER_GIB;
}

/** What is missing on the disk of the cache, and on that of the stacks' folders where it is another one. */
export function diskProblems(need: DiskNeed, { cache, stacks }: HostFacts): Problem[] {
  const { runtimeGiB, weightsGiB, trainerGiB, checkpointsGiB, totalGiB } = need;
  const parts = [
    { name: "the runtime", sizeGiB: runtimeGiB },
    { name: "the weights", sizeGiB: weightsGiB },
    { name: "the trainer", sizeGiB: trainerGiB },
  ];
  const checkpoints = { name: "ten users' checkpoints", sizeGiB: checkpointsGiB };
  if (stacks === undefined) return shortOf(cache, [...parts, checkpoints], totalGiB, "XDG_CACHE_HOME");
  return [
    ...shortOf(cache, parts, rounded(totalGiB - checkpointsGiB), "XDG_CACHE_HOME"),
    ...shortOf(stacks, [checkpoints], checkpointsGiB, "XDG_STATE_HOME"),
  ];
}

function shortOf(
  { path, freeGiB }: HostFacts["cache"],
  parts: readonly { readonly name: string; readonly sizeGiB: number }[],
  neededGiB: number,
  variable: string,
): Problem[] {
  if (freeGiB >= neededGiB) return [];
  const named = parts.filter(({ sizeGiB }) => sizeGiB > 0).map(({ name, sizeGiB }) => `${name} (${sizeGiB} GiB)`);
  return [
    {
      setting: "disk",
      what: `not enough room for ${listed(named)}`,
      value: `${freeGiB.toFixed(1)} GiB free at ${path}`,
      allowed: `at least ${neededGiB} GiB`,
      fix: `free some space, or point ${variable} at a larger disk`,
    },
  ];
}

function rounded(sizeGiB: number): number {
  return Math.ceil(sizeGiB * 10) / 10;
}
