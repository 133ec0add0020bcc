import { describe, expect, it } from "vitest";
import { builtInShape, builtInShapes } from "../../plan";
import { legalTrainerSizes, legalVllmSizes, vllmObjections } from "../../plan/parallel";
import { H100S, planOf, refusalOf } from "./hosts";

const SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct";
const LLAMA_8B = "meta-llama/Llama-3.1-8B";
const LLAMA_70B = "meta-llama/Llama-3.1-70B";

function shape(id: string) {
  const found = builtInShape(id);
  if (found === undefined) throw new Error(`no built-in shape of ${id}`);
  return found;
}

describe("tensor parallel sizes", () => {
  it.each([
    [SMOL, [1, 3]],
    ["Qwen/Qwen3-0.6B", [1, 2, 4, 8, 16]],
    [LLAMA_8B, [1, 2, 4, 8, 16, 32]],
    [LLAMA_70B, [1, 2, 4, 8, 16, 32, 64]],
    ["mistralai/Mixtral-8x7B-v0.1", [1, 2, 4, 8, 16, 32]],
  ])("of %s are what vLLM accepts", (id, sizes) => {
    expect(legalVllmSizes(shape(id), 64)).toEqual(sizes);
  });

  it("copy KV heads beyond their number where vLLM serves, not where the trainer trains", () => {
    expect(vllmObjections(shape(LLAMA_8B), 16)).toEqual([]);
    expect(legalTrainerSizes(shape(LLAMA_8B), 16)).toEqual([1, 2, 4, 8]);
    expect(legalTrainerSizes(shape(SMOL), 6)).toEqual([1, 3]);
  });

  it("name every dimension that stands in the way", () => {
    expect(vllmObjections(shape(SMOL), 9)).toEqual(["a feed-forward width of 1536", "a vocabulary of 49152"]);
    expect(vllmObjections(shape(SMOL), 5)).toHaveLength(4);
  });

  it("divide heads, KV heads and width into whole parts for every model and size", () => {
    for (const model of builtInShapes) {
      for (const size of legalVllmSizes(model, 64)) {
        expect(model.heads % size).toBe(0);
        expect(model.intermediate % size).toBe(0);
        expect(Math.max(model.kvHeads, size) % Math.min(model.kvHeads, size)).toBe(0);
      }
    }
  });
});

describe("the choice of tensor parallel size and replicas", () => {
  it("serves SmolLM2 on 4 GPUs as 4 replicas, because 9 heads don't divide by 2 or 4", () => {
    const plan = planOf({ gpus: 4 }, H100S(4));
    expect(plan).toMatchObject({ verdict: "fits", tensorParallel: 1, replicas: 4, gpuIndices: [0, 1, 2, 3] });
    expect(plan.reasons.join("\n")).toContain("9 attention heads");
    expect(plan.reasons.join("\n")).toContain("2 or 4");
  });

  it("serves a small model as replicas, which measured 51 382 tokens/s on two GPUs against 37 222 at TP 2", () => {
    expect(planOf({ model: "Qwen/Qwen3-0.6B", gpus: 2 }, H100S(2))).toMatchObject({ tensorParallel: 1, replicas: 2 });
  });

  it.each([2, 4])("refuses TP %i for 9 heads, offers 1 and 3, and a plan that works", (tensorParallel) => {
    const { problems, alternatives } = refusalOf({ gpus: 4, tensorParallel }, H100S(4));
    expect(problems).toEqual([
      expect.objectContaining({ setting: "tensorParallel", value: String(tensorParallel), allowed: "1 or 3" }),
    ]);
    expect(problems[0]?.what).toContain("9 attention heads");
    expect(alternatives[0]).toMatchObject({ change: { tensorParallel: "auto", replicas: "auto" }, verdict: "fits" });
  });

  it("takes the smallest size that fits: a 70 B model needs 4 of 4 cards, an 8 B model one", () => {
    expect(planOf({ model: LLAMA_70B, split: 0.9 }, H100S(4))).toMatchObject({ tensorParallel: 4, replicas: 1 });
    expect(planOf({ model: LLAMA_70B, split: 0.9 }, H100S(8))).toMatchObject({ tensorParallel: 4, replicas: 2 });
    expect(planOf({ model: LLAMA_8B }, H100S(4))).toMatchObject({ tensorParallel: 1, replicas: 4 });
  });

  it("spreads a mixture of experts over all GPUs, since vLLM has no independent replicas of it", () => {
    const model = "mistralai/Mixtral-8x7B-v0.1";
    const plan = planOf({ model, split: 0.7 }, H100S(8));
    expect(plan).toMatchObject({ tensorParallel: 8, replicas: 1, warnings: [] });
    expect(plan.reasons.join()).toContain("mixture of experts");
    const forced = planOf({ model, split: 0.7, replicas: 2 }, H100S(8));
    expect(forced).toMatchObject({ tensorParallel: 4, replicas: 2 });
    expect(forced.warnings.join()).toContain("no independent copies");
  });

  it("says how many GPUs stay idle when the sizes that were asked for leave some", () => {
    const plan = planOf({ tensorParallel: 3 }, H100S(4));
    expect(plan).toMatchObject({ tensorParallel: 3, replicas: 1, gpuIndices: [0, 1, 2] });
    expect(plan.warnings.join("\n")).toContain("one GPU stays idle");
  });

  it("warns of tensor parallelism below 500 M parameters, and of GPUs without NVLink", () => {
    const { warnings } = planOf({ tensorParallel: 3 }, { ...H100S(3), gpuLink: "pcie-host" });
    expect(warnings.join("\n")).toContain("below 500 M");
    expect(warnings.join("\n")).toContain("no NVLink");
    expect(planOf({}, { ...H100S(3), gpuLink: "pcie-host" }).warnings).toEqual([]);
  });

  it("refuses more workers than GPUs", () => {
    expect(refusalOf({ replicas: 3 }, H100S(2)).problems).toEqual([expect.objectContaining({ setting: "replicas" })]);
    expect(refusalOf({ tensorParallel: 3 }, H100S(2)).problems).toEqual([
      expect.objectContaining({ setting: "tensorParallel", allowed: "a product of 2 at most" }),
    ]);
    expect(refusalOf({ model: LLAMA_8B, pipelineParallel: 4 }, H100S(2)).problems).toHaveLength(1);
  });

  it("never uses more GPUs than there are, and every one of them at most once", () => {
    for (const model of builtInShapes) {
      for (const gpus of [1, 2, 3, 4, 6, 8]) {
        for (const pipelineParallel of [1, 2]) {
          if (pipelineParallel > gpus) continue;
          const plan = planOrNothing(model.id, gpus, pipelineParallel);
          if (plan === undefined) continue;
          expect(plan.tensorParallel * plan.replicas * pipelineParallel).toBe(plan.gpuIndices.length);
          expect(new Set(plan.gpuIndices).size).toBe(plan.gpuIndices.length);
          expect(plan.gpuIndices.length).toBeLessThanOrEqual(gpus);
        }
      }
    }
  });
});

function planOrNothing(model: string, gpus: number, pipelineParallel: number) {
  try {
    return planOf({ model, pipelineParallel, split: 0.9 }, H100S(gpus));
  } catch {
    return undefined;
  }
}
