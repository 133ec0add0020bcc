import type { HostFacts } from "./facts";
import type { ModelShape } from "./model-shape";
import type { Plan } from "./plan";
import type { Problem } from "./problem";
import type { Settings } from "./settings";

const BYTES_PER_GIB = 2 ** 30;
/** An environment with vLLM for CPU took 5.9 GB on disk (0.32.0, November 2026). */
const CPU_RUNTIME_GIB = 5.9e9 / BYTES_PER_GIB;
/** An environment with vLLM for CUDA: its wheels and those of PyTorch and CUDA 13 unpacked; estimated, not measured. */
const CUDA_RUNTIME_GIB = 12;
/** The image of vLLM unpacked; estimated, not measured. */
const IMAGE_GIB = 25;

export type DiskNeed = Plan["disk"];

/** Room that the cache's disk must have before anything is installed. */
export function diskNeed(settings: Settings, shape: ModelShape, device: Plan["device"]): DiskNeed {
  const runtimeGiB = rounded(runtimeSize(settings, device));
  const weightsGiB = rounded(weightsSize(settings.model, shape));
  return { runtimeGiB, weightsGiB, totalGiB: rounded(runtimeGiB + weightsGiB) };
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

export function diskProblem(need: DiskNeed, { cache }: HostFacts): Problem | undefined {
  if (cache.freeGiB >= need.totalGiB) return undefined;
  return {
    setting: "disk",
    what: `not enough room for the runtime (${need.runtimeGiB} GiB) and the weights (${need.weightsGiB} GiB)`,
    value: `${cache.freeGiB.toFixed(1)} GiB free at ${cache.path}`,
    allowed: `at least ${need.totalGiB} GiB`,
    fix: "free some space, or point XDG_CACHE_HOME at a larger disk",
  };
}

function rounded(sizeGiB: number): number {
  return Math.ceil(sizeGiB * 10) / 10;
}
