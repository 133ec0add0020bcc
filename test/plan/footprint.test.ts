import { describe, expect, it } from "vitest";
import { builtInShape, hypotheticalHost, type HostFacts, type Plan, type SettingsInput } from "../../plan";
import { CPU_HOST, H100S, planOf } from "./hosts";
import measurements from "./measured-rows.json";

const GIB = 2 ** 30;

/** The cards that rows were measured on: memory by `nvidia-smi` and by CUDA. */
const CARDS = {
  H100: { hostOf: H100S, totalGiB: 79.65, cudaGiB: 79.18 },
  H200: {
    hostOf: (gpus: number) => hypotheticalHost({ gpus, gpuType: "h200-141gb" }),
    totalGiB: 140.4,
    cudaGiB: 139.8,
  },
};

/** What was measured of vLLM with the KV cache of a plan: memory of one GPU after 64 streams, and the tokens that it reported. */
const measured = measurements.rows.flatMap((row) => {
  const { quantity, model, tensorParallel, kvCacheTokens, maxAdapters, maxRank, eager, hardware, ownAllReduce } = row;
  if (quantity !== "whole footprint" || kvCacheTokens === undefined) return [];
  const shape = builtInShape(model)!;
  const heads = Math.max(1, shape.kvHeads / tensorParallel);
  const kvGiB = (kvCacheTokens * 2 * shape.layers * heads * shape.headDim * 2) / GIB;
  // Of the first plan, which is what these were asked for with: docs/measurements.md.
  const share = model === "meta-llama/Llama-3.2-1B" ? 0.7 : 0.4;
  const settings: SettingsInput = {
    model,
    tensorParallel,
    split: share,
    lora: { maxAdapters: maxAdapters, maxRank: maxRank },
    serving: { maxModelLen: 2048, enforceEager: eager },
  };
  const { hostOf, ...card } = hardware.includes("H200") ? CARDS.H200 : CARDS.H100;
  const host: HostFacts = { ...hostOf(Number(hardware[0])), gpuLink: "nvlink", peerAccess: ownAllReduce ?? false };
  return [
    {
      name: `${model}, TP ${tensorParallel}, ${hardware}`,
      settings,
      share,
      host,
      ...card,
      besideKvGiB: row.measured / 1024 - kvGiB,
    },
  ];
});

/** The host after a first start whose proof kept what vLLM took. */
function afterStart({ footprint }: Plan, besideKvGiB: number, host = H100S(2)): HostFacts {
  return { ...host, footprints: [{ key: footprint!.key, besideKvGiB }] };
}

/** What vLLM would take of a GPU: the plan's KV cache and what was measured beside it. */
function footprintOf(plan: Plan, besideKvGiB: number): number {
  return plan.kvCacheBytes / GIB + besideKvGiB;
}

describe("the share of a GPU, from what vLLM was measured to take", () => {
  it("has all the recorded figures", () => {
    expect(measured.length).toBeGreaterThanOrEqual(5);
  });

  it("has room for NCCL's larger graphs unless vLLM's own all-reduce is known to run", () => {
    const cacheOf = (facts: Partial<HostFacts>, tensorParallel: number, extraArgs: string[] = []) => {
      const settings = { model: "Qwen/Qwen3-0.6B", tensorParallel, serving: { maxModelLen: 2048, extraArgs } };
      return planOf(settings, { ...H100S(4), ...facts }).kvCacheBytes / GIB;
    };
    const joined = { peerAccess: true, gpuLink: "nvlink" } as const;
    expect(cacheOf(joined, 4) - cacheOf({ ...joined, peerAccess: false }, 4)).toBeCloseTo(1.69, 1);
    for (const size of [2, 4]) {
      expect(cacheOf(joined, size, ["--disable-custom-all-reduce"])).toBe(cacheOf({}, size));
      expect(cacheOf({ gpuLink: "nvlink" }, size)).toBe(cacheOf({}, size));
    }
    expect(cacheOf({ peerAccess: true, gpuLink: "pcie-host" }, 4)).toBe(cacheOf({}, 4));
    expect(cacheOf({ peerAccess: true, gpuLink: "pcie-host" }, 2)).toBe(cacheOf(joined, 2));
  });

  it.each(measured)("is within 5 % on the first start and 2 % from the second on: $name", (row) => {
    const { host, totalGiB, cudaGiB } = row;
    const cudaShareGiB = row.share * cudaGiB;
    const first = planOf(row.settings, host);
    expect(first.footprint?.basis).toBe("worked out");
    expect(Math.abs(footprintOf(first, row.besideKvGiB) / cudaShareGiB - 1)).toBeLessThan(0.05);
    const second = planOf(row.settings, afterStart(first, row.besideKvGiB, host));
    expect(second.footprint?.basis).toBe("measured");
    expect(Math.abs(footprintOf(second, row.besideKvGiB) / cudaShareGiB - 1)).toBeLessThan(0.02);
    // Of nvidia-smi's total, which a share is of, to a block of the cache.
    expect(footprintOf(second, row.besideKvGiB) / (row.share * totalGiB)).toBeCloseTo(1, 3);
    expect(second.perGpu[0]?.parts.reduce((sum, { sizeGiB }) => sum + sizeGiB, 0)).toBeCloseTo(totalGiB, 1);
    expect(second.reasons.join()).toContain("measured");
  });

  const settings: SettingsInput = { model: "Qwen/Qwen3-0.6B", tensorParallel: 2, split: 0.4 };
  const first = planOf(settings, H100S(2));

  it("does not start a vLLM anew that runs: the figure counts from its next start on", () => {
    const { startKey: key, besideKvGiB } = first.footprint!;
    const running: HostFacts = { ...afterStart(first, 3), startedWith: { key, besideKvGiB } };
    expect(planOf(settings, running)).toEqual(first);
    const second = planOf(settings, afterStart(first, 3));
    expect(second.kvCacheBytes).not.toBe(first.kvCacheBytes);
    // Its own proof measured a little else; it goes on as it was started.
    const { startKey, besideKvGiB: started } = second.footprint!;
    const later = { ...afterStart(first, 3.1), startedWith: { key: startKey, besideKvGiB: started } };
    expect(planOf(settings, later)).toEqual(second);
    // Another share is another start.
    expect(planOf({ ...settings, split: 0.5 }, running).footprint).toMatchObject({ basis: "measured", besideKvGiB: 3 });
  });

  it.each<[string, SettingsInput]>([
    ["model", { model: "HuggingFaceTB/SmolLM2-135M-Instruct", tensorParallel: 1 }],
    ["revision", { revision: "v2" }],
    ["version of vLLM", { vllmVersion: "0.31.0" }],
    ["tensor parallel size", { tensorParallel: 1 }],
    ["number format", { serving: { dtype: "float16" } }],
    ["length", { serving: { maxModelLen: 4096 } }],
    ["number of adapters", { lora: { maxAdapters: 4 } }],
    ["rank", { lora: { maxRank: 32 } }],
    ["use of graphs", { serving: { enforceEager: true } }],
    ["option", { serving: { extraArgs: ["--max-num-seqs=8"] } }],
  ])("is not taken from a start with another %s", (_, change) => {
    expect(planOf({ ...settings, ...change }, afterStart(first, 3)).footprint?.basis).toBe("worked out");
  });

  it("is not taken from another GPU, nor from a figure that can't be", () => {
    const h200 = { ...H100S(2), gpus: H100S(2).gpus.map((gpu) => ({ ...gpu, model: "NVIDIA H200" })) };
    expect(planOf(settings, afterStart(first, 3, h200)).footprint?.basis).toBe("worked out");
    for (const besideKvGiB of [-3, 0.1, 40]) {
      expect(planOf(settings, afterStart(first, besideKvGiB)).footprint?.basis).toBe("worked out");
    }
  });

  it("is no matter on the CPU", () => {
    expect(planOf({}, CPU_HOST).footprint).toBeUndefined();
  });
});
