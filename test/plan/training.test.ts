import { describe, expect, it } from "vitest";
import { type HostFacts, parseSettings, type SettingsInput } from "../../plan";
import { CPU_HOST, H100S, planOf, planWith, refusalOf } from "./hosts";

const QWEN = "Qwen/Qwen3-0.6B";
const MEGATRON = { backend: "megatron-bridge" } as const;
const PEFT = { backend: "huggingface" } as const;

/** Memory that is reserved for the adapter itself, which grows with its rank. */
function adapterGiB(raw: SettingsInput): number {
  const parts = planOf({ model: QWEN, ...raw }, H100S(1)).perGpu[0]?.parts ?? [];
  return parts.find(({ name }) => name === "LoRA gradients and optimizer")?.sizeGiB ?? Number.NaN;
}

describe("the rank that memory is reserved for", () => {
  it("is 32, or what vLLM serves where that is less", () => {
    expect(adapterGiB({ training: PEFT })).toBe(adapterGiB({ training: { ...PEFT, rank: 32 } }));
    expect(adapterGiB({ training: PEFT, lora: { maxRank: 16 } })).toBe(
      adapterGiB({ training: { ...PEFT, rank: 16 }, lora: { maxRank: 16 } }),
    );
    expect(adapterGiB({ training: PEFT, lora: { maxRank: 16 } })).toBeLessThan(adapterGiB({ training: PEFT }));
  });

  it("can't be more than what is served, when it is asked for", () => {
    const { problems } = parseSettings({ training: { ...PEFT, rank: 17 }, lora: { maxRank: 16 } });
    expect(problems).toEqual([
      expect.objectContaining({ setting: "training.rank", fix: expect.stringContaining("to 32") as string }),
    ]);
  });
});

describe("the trainer's tensor parallel size", () => {
  it("is the smallest that fits, or the one that was asked for", () => {
    const sizeOf = (tensorParallel: "auto" | number) =>
      planOf({ model: QWEN, training: { ...MEGATRON, tensorParallel } }, H100S(4)).training.tensorParallel;
    expect([sizeOf("auto"), sizeOf(1), sizeOf(2), sizeOf(4)]).toEqual([1, 1, 2, 4]);
  });

  it("says which GPUs have a rank of it", () => {
    const { perGpu } = planOf({ model: QWEN, training: { ...MEGATRON, tensorParallel: 2 } }, H100S(4));
    expect(perGpu.map(({ trainingGiB }) => trainingGiB > 0)).toEqual([true, true, false, false]);
    expect(perGpu[3]?.parts.at(-1)).toMatchObject({ side: "free", name: "free for training" });
  });

  it.each([
    [QWEN, 3, "16 attention heads and 8 KV heads", "1, 2 or 4"],
    ["meta-llama/Llama-3.1-8B", 16, "8 KV heads", "1, 2 or 4"],
    [QWEN, 8, "would leave some of 4 GPUs out", "1, 2 or 4"],
  ])("of %s can't be %i on 4 GPUs: %s", (model, tensorParallel, what, allowed) => {
    const { problems, alternatives } = refusalOf({ model, training: { ...MEGATRON, tensorParallel } }, H100S(4));
    const expected = { setting: "training.tensorParallel", what: expect.stringContaining(what) as string, allowed };
    expect(problems).toEqual([expect.objectContaining(expected)]);
    expect(alternatives[0]?.change).toEqual({ "training.tensorParallel": "auto" });
  });

  it("is 1 for Hugging Face's PEFT", () => {
    const { problems } = parseSettings({ training: { ...PEFT, tensorParallel: 2 } });
    expect(problems).toEqual([expect.objectContaining({ setting: "training.tensorParallel", allowed: "auto or 1" })]);
  });

  it("that was asked for and does not fit is offered as auto", () => {
    const raw: SettingsInput = {
      model: "meta-llama/Llama-3.1-8B",
      split: 0.75,
      training: { ...MEGATRON, tensorParallel: 1 },
    };
    const { problems, alternatives } = refusalOf(raw, H100S(4));
    expect(problems[0]?.what).toContain("the trainer needs");
    expect(alternatives[0]?.change).toEqual({ "training.tensorParallel": "auto" });
  });
});

describe("the disk that training needs", () => {
  const diskOf = (raw: SettingsInput) => planOf(raw, H100S(1)).disk;

  it("is the trainer's environment and ten users' checkpoints, which grow with rank and model", () => {
    const small = diskOf({ training: PEFT });
    // 30 layers x 32 x (2 x (576 + 576) + 2 x (576 + 192) + 3 x (576 + 1536)) weights of 252 bytes.
    expect(small.checkpointsGiB).toBe(2.3);
    expect(small.totalGiB).toBeCloseTo(diskOf({}).totalGiB + small.trainerGiB + 2.3, 1);
    expect(diskOf({ training: { ...PEFT, rank: 64 } }).checkpointsGiB).toBeCloseTo(2 * 2.3, 0);
    expect(diskOf({ model: QWEN, training: PEFT }).checkpointsGiB).toBeGreaterThan(small.checkpointsGiB);
    expect(diskOf({})).toMatchObject({ trainerGiB: 0, checkpointsGiB: 0 });
    expect(diskOf({ training: { ...PEFT, runtimePath: "/opt/python" } }).trainerGiB).toBe(0);
  });

  it("is looked for on the cache's disk, and on that of the stacks where it is another one", () => {
    const { totalGiB, checkpointsGiB } = diskOf({ training: PEFT });
    const host = (freeGiB: number, stacksGiB?: number): HostFacts => ({
      ...H100S(1),
      cache: { path: "/cache", freeGiB },
      ...(stacksGiB !== undefined && { stacks: { path: "/state", freeGiB: stacksGiB } }),
    });
    expect(refusalOf({ training: PEFT }, host(totalGiB - 1)).problems).toEqual([
      expect.objectContaining({ setting: "disk", allowed: `at least ${totalGiB} GiB` }),
    ]);
    expect(planWith({ training: PEFT }, host(totalGiB - checkpointsGiB + 0.1, checkpointsGiB)).verdict).toBe("fits");
    expect(refusalOf({ training: PEFT }, host(totalGiB, 1)).problems).toEqual([
      expect.objectContaining({
        value: "1.0 GiB free at /state",
        fix: expect.stringContaining("XDG_STATE_HOME") as string,
      }),
    ]);
  });
});

describe("training on the CPU", () => {
  it("has what serving leaves of the memory by its share, and the ledger adds up", () => {
    const { host } = planOf({ training: PEFT }, CPU_HOST);
    expect(host?.trainingGiB).toBeCloseTo(0.6 * 24, 1);
    expect(host?.parts.reduce((sum, { sizeGiB }) => sum + sizeGiB, 0)).toBeCloseTo(24, 1);
    expect(planOf({}, CPU_HOST).host?.trainingGiB).toBe(0);
  });

  it("is refused where its share does not hold the model, and where too little is free for both halves", () => {
    const raw: SettingsInput = { training: PEFT, split: { serving: 0.9, training: 0.05 } };
    expect(refusalOf(raw, CPU_HOST).problems).toEqual([
      expect.objectContaining({ setting: "split", what: expect.stringContaining("too small for the model") as string }),
    ]);
    const needs = (training: SettingsInput["training"]) => {
      const { problems } = refusalOf({ training }, { ...CPU_HOST, memoryAvailableGiB: 1 });
      return Number(/at least ([\d.]+)/.exec(problems[0]?.allowed ?? "")?.[1]);
    };
    expect(needs(PEFT)).toBeGreaterThan(needs({}) + 1);
  });
});
