import { describe, expect, it } from "vitest";
import { builtInShapes, coerceConfig, gpuTypes, hypotheticalHost, type Plan, type SettingsInput } from "../../plan";
import { H100S, planOf, planWith, refusalOf } from "./hosts";

const QWEN = "Qwen/Qwen3-0.6B";
const LLAMA_8B = "meta-llama/Llama-3.1-8B";

/** A wide grid of settings over all built-in models and cards: what holds for each must hold for any. */
function* everyPlan(): Generator<{ plan: Plan; serving: number }> {
  const trainings: SettingsInput["training"][] = [{}, { backend: "megatron-bridge" }, { backend: "huggingface" }];
  for (const shape of builtInShapes) {
    for (const { name } of gpuTypes) {
      for (const serving of [0.2, 0.4, 0.7, 0.95]) {
        for (const training of trainings) {
          const host = hypotheticalHost({ gpus: 4, gpuType: name });
          const { plan } = planWith({ model: shape.id, split: { serving }, training }, host);
          if (plan !== undefined) yield { plan, serving };
        }
      }
    }
  }
}

describe("the memory ledger of a GPU", () => {
  it("adds up to the card, keeps vLLM's whole footprint in its share, and never plans what is not there", () => {
    let count = 0;
    for (const { plan, serving } of everyPlan()) {
      count++;
      for (const ledger of plan.perGpu) {
        const sum = ledger.parts.reduce((total, { sizeGiB }) => total + sizeGiB, 0);
        expect(sum).toBeCloseTo(ledger.totalGiB, 1);
        expect(ledger.servingGiB).toBeLessThanOrEqual(serving * ledger.totalGiB + 0.01);
        // Less than one block of the KV cache is lost to rounding.
        expect(ledger.servingGiB).toBeGreaterThan(serving * ledger.totalGiB - 0.1);
        expect(ledger.freeGiB).toBeGreaterThanOrEqual(0);
        for (const { sizeGiB } of ledger.parts) expect(sizeGiB).toBeGreaterThanOrEqual(0);
      }
      expect(plan.kvCacheTokens).toBeGreaterThanOrEqual(plan.maxModelLen);
      expect(plan.kvCacheTokens % 16).toBe(0);
      expect(plan.maxModelLen).toBeGreaterThan(0);
    }
    expect(count).toBeGreaterThan(300);
  });

  it("never shrinks the KV cache when serving gets more", () => {
    let last = 0;
    for (let serving = 0.3; serving <= 0.95; serving += 0.05) {
      const { kvCacheTokens } = planOf({ model: LLAMA_8B, split: serving }, H100S(1));
      expect(kvCacheTokens).toBeGreaterThan(last);
      last = kvCacheTokens;
    }
  });

  it("gives what adapters, CUDA graphs and a second copy of KV heads don't take to the KV cache", () => {
    const base = planOf({ model: QWEN }, H100S(1));
    const tokens = (raw: SettingsInput) => planOf({ model: QWEN, ...raw }, H100S(1)).kvCacheTokens;
    expect(tokens({ lora: { maxAdapters: 2 } })).toBeGreaterThan(base.kvCacheTokens);
    expect(tokens({ lora: { enabled: false } })).toBeGreaterThan(tokens({ lora: { maxAdapters: 2 } }));
    expect(tokens({ serving: { enforceEager: true } })).toBeGreaterThan(base.kvCacheTokens);
  });

  it("holds both sides when something trains, and says that compute is not split", () => {
    const plan = planOf({ model: LLAMA_8B, training: { backend: "megatron-bridge" } }, H100S(4));
    const [ledger] = plan.perGpu;
    const names = ledger?.parts.filter(({ side }) => side === "training").map(({ name }) => name);
    expect(names).toEqual([
      "weights",
      "LoRA gradients and optimizer",
      "activations",
      "NCCL and context",
      "room for larger batches",
    ]);
    // nvidia-smi's total is 0.6 % more than programs can have.
    expect(ledger?.trainingGiB).toBeCloseTo(79.65 * 0.6 - 0.47, 1);
    expect(plan.warnings.join()).toContain("compute is not");
  });

  it("spreads the trainer where one GPU is too small for it, and refuses what no size can hold", () => {
    const spread = planOf({ model: LLAMA_8B, split: 0.75, training: { backend: "megatron-bridge" } }, H100S(4));
    expect(spread.training.tensorParallel).toBeGreaterThan(1);
    const { problems, alternatives } = refusalOf(
      { model: LLAMA_8B, split: 0.75, training: { backend: "huggingface" } },
      H100S(4),
    );
    expect(problems[0]?.what).toContain("the trainer needs");
    expect(alternatives.length).toBeGreaterThan(0);
  });

  it("calls a cache for hardly more than one request tight", () => {
    const plan = planOf({ model: LLAMA_8B, serving: { maxModelLen: 65_536 } }, H100S(1));
    expect(plan.verdict).toBe("tight");
    expect(plan.warnings.join()).toContain("tight");
  });
});

describe("what does not fit", () => {
  it("says how much is missing, and offers settings that fit", () => {
    const raw: SettingsInput = { model: "meta-llama/Llama-3.1-70B", gpus: 4, gpuType: "h100-80gb" };
    const { problems, alternatives } = refusalOf(raw, H100S(4));
    expect(problems).toEqual([
      expect.objectContaining({ setting: "model", what: expect.stringMatching(/takes 50\.\d of/) }),
    ]);
    expect(alternatives).toHaveLength(3);
    for (const { change, verdict } of alternatives) {
      const changed = { ...raw, ...nest(change) };
      const host = hypotheticalHost({ gpus: Number(changed.gpus), gpuType: changed.gpuType ?? "" });
      expect(planWith(changed, host).verdict).toBe(verdict);
    }
  });

  it("offers a shorter length where only that is too long", () => {
    const { alternatives } = refusalOf({ model: LLAMA_8B, serving: { maxModelLen: 131_072 } }, H100S(1));
    expect(alternatives[0]?.change).toEqual({ "serving.maxModelLen": 65_536 });
  });
});

/** `{ "serving.maxModelLen": 1 }` as raw settings. */
function nest(change: Readonly<Record<string, unknown>>): SettingsInput {
  return coerceConfig(Object.fromEntries(Object.entries(change).map(([name, value]) => [name, asText(value)])));
}

function asText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
