import type { GpuFacts } from "./facts";
import type { ModelShape } from "./model-shape";
import type { Dtype } from "./plan";
import type { Problem } from "./problem";
import type { Settings } from "./settings";

/** vLLM's limit for adapters on the output head (read in 0.32.0). */
const MOST_VOCABULARY_WITH_ADAPTERS = 258_048;
const BFLOAT16_CAPABILITY = 8;

/** What stands in the way of the model with these settings, on any machine. */
export function modelProblems({ serving, lora }: Settings, shape: ModelShape): Problem[] {
  const problems: Problem[] = [];
  if (serving.maxModelLen !== undefined && serving.maxModelLen > shape.maxPositions) {
    problems.push({
      setting: "serving.maxModelLen",
      what: `${shape.id} was made for fewer tokens`,
      value: String(serving.maxModelLen),
      allowed: `at most ${shape.maxPositions}`,
      fix: `set \`serving.maxModelLen\` to ${shape.maxPositions} or less, or leave it out`,
    });
  }
  if (lora.enabled && shape.vocab > MOST_VOCABULARY_WITH_ADAPTERS) {
    problems.push({
      setting: "lora.enabled",
      what: `vLLM serves adapters for vocabularies of ${MOST_VOCABULARY_WITH_ADAPTERS} at most, and ${shape.id} has ${shape.vocab}`,
      value: "true",
      fix: "set `lora.enabled` to false",
    });
  }
  return problems;
}

/** The number format that vLLM takes: 32-bit models are served in 16 bits, as `--dtype auto` does. */
export function servingDtype({ serving }: Settings, shape: ModelShape, gpus: readonly GpuFacts[]): Dtype {
  if (serving.dtype !== "auto") return serving.dtype;
  if (shape.dtype === "float16") return "float16";
  return gpus.some(lacksBfloat16) ? "float16" : "bfloat16";
}

export function dtypeProblem({ serving }: Settings, gpus: readonly GpuFacts[]): Problem | undefined {
  const old = gpus.find(lacksBfloat16);
  if (serving.dtype !== "bfloat16" || old === undefined) return undefined;
  return {
    setting: "serving.dtype",
    what: `GPU ${old.index} (${old.model}, compute capability ${old.computeCapability}) has no bfloat16`,
    value: "bfloat16",
    allowed: "auto, float16 or float32",
    fix: "set `serving.dtype` to auto",
  };
}

function lacksBfloat16({ computeCapability }: GpuFacts): boolean {
  return computeCapability !== undefined && Number.parseFloat(computeCapability) < BFLOAT16_CAPABILITY;
}
