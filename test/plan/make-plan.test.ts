import { describe, expect, it } from "vitest";
import { builtInShape, gpuTypes, type HostFacts, hypotheticalHost, makePlan, parseSettings } from "../../plan";
import { CPU_HOST, H100S, planOf, planWith, refusalOf } from "./hosts";

const QWEN = "Qwen/Qwen3-0.6B";

describe("planning on GPUs", () => {
  it("answers the same every time", () => {
    const first = planOf({ model: "meta-llama/Llama-3.1-70B", split: 0.9 }, H100S(8));
    expect(planOf({ model: "meta-llama/Llama-3.1-70B", split: 0.9 }, H100S(8))).toEqual(first);
    expect(JSON.parse(JSON.stringify(first))).toEqual(first);
  });

  it("does not change with what changes by itself: free memory, free disk, a little use of a GPU", () => {
    const host = H100S(2);
    const later: HostFacts = {
      ...host,
      memoryAvailableGiB: host.memoryAvailableGiB - 7,
      cache: { ...host.cache, freeGiB: 100 },
      gpus: host.gpus.map((gpu) => ({ ...gpu, memoryUsedGiB: 0.3 })),
    };
    expect(planOf({}, later)).toEqual(planOf({}, host));
  });

  it("uses the GPUs that were asked for", () => {
    expect(planOf({ devices: "3,1" }, H100S(4))).toMatchObject({ gpuIndices: [3, 1], replicas: 2 });
    expect(planOf({ gpus: 2 }, H100S(4)).gpuIndices).toEqual([0, 1]);
  });

  it.each([
    [{ gpus: 8 }, "gpus", "0 to 4, or all"],
    [{ devices: [2, 7] }, "devices", "0, 1, 2, 3"],
  ])("refuses GPUs that are not there: %j", (raw, setting, allowed) => {
    expect(refusalOf(raw, H100S(4)).problems).toEqual([expect.objectContaining({ setting, allowed })]);
  });

  it("refuses GPUs without a driver, and with one that is too old for CUDA 13", () => {
    expect(refusalOf({}, { ...H100S(1), driverVersion: undefined }).problems).toEqual([
      expect.objectContaining({ setting: "driver" }),
    ]);
    expect(refusalOf({}, { ...H100S(1), driverVersion: "535.183.01" }).problems).toEqual([
      expect.objectContaining({ setting: "driver", value: "535.183.01", allowed: "branch 580 or newer" }),
    ]);
    const own = { runtime: "existing", runtimePath: "/opt/vllm/bin/python" } as const;
    expect(planWith(own, { ...H100S(1), driverVersion: "535.183.01" }).verdict).toBe("fits");
  });

  it("refuses a GPU that others use, but not the little that a desktop takes", () => {
    const busy: HostFacts = { ...H100S(1), gpus: H100S(1).gpus.map((gpu) => ({ ...gpu, memoryUsedGiB: 60 })) };
    expect(refusalOf({}, busy).problems).toEqual([expect.objectContaining({ setting: "devices" })]);
    expect(planWith({ split: 0.2 }, busy).verdict).toBe("fits");
    expect(refusalOf({ split: 0.2, model: QWEN, training: { backend: "huggingface" } }, busy).problems).toHaveLength(1);
  });

  it("reports a taken port with its holder, a missing compiler and a full disk together", () => {
    const host: HostFacts = {
      ...H100S(1),
      portHolder: { processId: 42, command: "nginx" },
      hasCCompiler: false,
      cache: { path: "/cache", freeGiB: 1 },
    };
    const { problems } = refusalOf({}, host);
    expect(problems.map(({ setting }) => setting)).toEqual(["port", "runtime", "disk"]);
    expect(problems[0]).toMatchObject({ what: "the port is taken by nginx (process 42)", value: "8000" });
    expect(problems[2]).toMatchObject({ value: "1.0 GiB free at /cache" });
  });

  it("refuses a length that the model was not made for", () => {
    expect(refusalOf({ serving: { maxModelLen: 16_384 } }, H100S(1)).problems).toEqual([
      expect.objectContaining({ setting: "serving.maxModelLen", allowed: "at most 8192" }),
    ]);
  });

  it("takes float16 on cards without bfloat16, and refuses bfloat16 there", () => {
    const t4 = hypotheticalHost({ gpus: 1, gpuType: "t4-16gb" });
    expect(planOf({}, t4).dtype).toBe("float16");
    expect(refusalOf({ serving: { dtype: "bfloat16" } }, t4).problems).toEqual([
      expect.objectContaining({ setting: "serving.dtype" }),
    ]);
  });

  it("plans unequal cards as the smallest and says so", () => {
    const [large] = H100S(1).gpus;
    const [small] = hypotheticalHost({ gpus: 1, gpuType: "l4-24gb" }).gpus;
    if (large === undefined || small === undefined) throw new Error("no GPUs");
    const plan = planOf({}, { ...H100S(2), gpus: [large, { ...small, index: 1 }] });
    expect(plan.warnings.join()).toContain("differ in memory");
    expect(plan.perGpu[0]?.servingGiB).toBeCloseTo(plan.perGpu[1]?.servingGiB ?? 0, 3);
  });

  it("knows the catalogue, and lists it for a name that it does not have", () => {
    const host = hypotheticalHost({ gpus: 2, gpuType: "h100" });
    const [problem] = refusalOf({ gpus: 2, gpuType: "h100" }, host).problems;
    expect(problem).toMatchObject({ setting: "gpuType", value: "h100" });
    for (const { name } of gpuTypes) expect(problem?.allowed).toContain(name);
  });

  it("refuses adapters for a vocabulary beyond vLLM's limit", () => {
    const shape = builtInShape(QWEN);
    const { settings } = parseSettings({ model: QWEN });
    if (shape === undefined || settings === undefined) throw new Error("no shape");
    const result = makePlan({ settings, shape: { ...shape, vocab: 262_144 }, hosts: [H100S(1)] });
    expect(result.problems).toEqual([expect.objectContaining({ setting: "lora.enabled" })]);
  });

  it("says that there is no machine, and that several are too many", () => {
    const shape = builtInShape(QWEN);
    const { settings } = parseSettings({ model: QWEN });
    if (shape === undefined || settings === undefined) throw new Error("no shape");
    expect(makePlan({ settings, shape, hosts: [] }).problems).toHaveLength(1);
    expect(makePlan({ settings, shape, hosts: [H100S(1), H100S(1)] }).problems).toEqual([
      expect.objectContaining({ setting: "target", allowed: "one machine" }),
    ]);
  });

  it("ends the stack where the budget ends", () => {
    const shape = builtInShape(QWEN);
    const { settings } = parseSettings({ model: QWEN, ttl: "10h", budgetUsd: 20, maxPricePerHourUsd: 6 });
    if (shape === undefined || settings === undefined) throw new Error("no shape");
    const at = (pricePerHourUsd: number) => makePlan({ settings, shape, hosts: [H100S(1)], pricePerHourUsd });
    expect(at(1).plan?.cost).toEqual({ pricePerHourUsd: 1, ttlSeconds: 36_000, capUsd: 10 });
    expect(at(5).plan?.cost).toEqual({ pricePerHourUsd: 5, ttlSeconds: 14_400, capUsd: 20 });
    expect(at(7).problems).toEqual([expect.objectContaining({ setting: "maxPricePerHourUsd" })]);
  });
});

describe("planning on the CPU", () => {
  it("serves with one process and 65 536 tokens where there is no GPU", () => {
    const plan = planOf({ serving: { maxModelLen: 2048 } }, CPU_HOST);
    expect(plan).toMatchObject({
      verdict: "fits",
      device: "cpu",
      tensorParallel: 1,
      replicas: 1,
      gpuIndices: [],
      perGpu: [],
      kvCacheTokens: 65_536,
      // 30 layers x 3 KV heads x 64 x keys and values x 2 bytes a token.
      kvCacheBytes: 65_536 * 30 * 3 * 64 * 2 * 2,
      maxModelLen: 2048,
      dtype: "bfloat16",
      enforceEager: true,
    });
    expect(plan.reasons.join()).toContain("no GPU answers");
  });

  it("takes the CPU of a machine with GPUs when asked for 0 of them", () => {
    expect(planOf({ gpus: 0 }, H100S(2)).device).toBe("cpu");
  });

  it("offers the CPU when GPUs were asked for and none answers", () => {
    const { problems, alternatives } = refusalOf({ gpus: 2 }, CPU_HOST);
    expect(problems).toEqual([expect.objectContaining({ setting: "gpus", allowed: "0" })]);
    expect(alternatives[0]).toMatchObject({ change: { gpus: 0 } });
  });

  it("allows as many workers as cores, and only sizes that divide the heads", () => {
    expect(planOf({ model: QWEN, tensorParallel: 2 }, CPU_HOST)).toMatchObject({ tensorParallel: 2 });
    expect(refusalOf({ model: QWEN, tensorParallel: 4 }, CPU_HOST).problems).toEqual([
      expect.objectContaining({ setting: "tensorParallel", what: expect.stringContaining("4 cores") }),
    ]);
    expect(refusalOf({ tensorParallel: 2 }, CPU_HOST).problems[0]).toMatchObject({ allowed: "1 or 3" });
  });

  it("refuses head sizes that kill vLLM's CPU engine at the first request", () => {
    const shape = builtInShape(QWEN);
    const { settings } = parseSettings({ model: QWEN });
    if (shape === undefined || settings === undefined) throw new Error("no shape");
    const withHead = (headDim: number) => makePlan({ settings, shape: { ...shape, headDim }, hosts: [CPU_HOST] });
    expect(withHead(16).problems).toEqual([expect.objectContaining({ setting: "model", value: "16" })]);
    for (const headDim of [32, 64, 80, 96, 112, 128]) expect(withHead(headDim).plan?.warnings).toEqual([]);
    expect(withHead(256).plan?.warnings.join()).toContain("nobody has tried");
  });

  it("holds fewer tokens where the share is small, and refuses a model that does not fit at all", () => {
    const small = planOf({}, { ...CPU_HOST, memoryTotalGiB: 9 });
    expect(small.kvCacheTokens).toBeLessThan(65_536);
    expect(small.maxModelLen).toBe(8192);
    expect(refusalOf({ model: "meta-llama/Llama-3.1-8B" }, CPU_HOST).problems).toHaveLength(1);
  });

  it("refuses when too little memory is free just now, and says how much is needed", () => {
    const { problems } = refusalOf({}, { ...CPU_HOST, memoryAvailableGiB: 2 });
    expect(problems).toEqual([expect.objectContaining({ setting: "memory", value: "2.0 GiB available" })]);
  });

  it("needs a GPU for Megatron-Bridge", () => {
    expect(refusalOf({ training: { backend: "megatron-bridge" } }, CPU_HOST).problems).toEqual([
      expect.objectContaining({ setting: "training.backend", allowed: "huggingface or off" }),
    ]);
  });
});
