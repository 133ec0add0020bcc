import { describe, expect, it } from "vitest";
import { compareProof, type Plan, type Proof } from "../../plan";
import { goodProof } from "./good-proof";
import { CPU_HOST, H100S, planOf } from "./hosts";

const plan = planOf({ gpus: 2 }, H100S(2));

function statusOf(proof: Proof, name: string, of: Plan = plan) {
  return compareProof(of, proof).find((check) => check.name === name)?.status;
}

describe("the comparison of plan and proof", () => {
  it("passes when everything was kept, on GPUs and on the CPU", () => {
    const cpu = planOf({}, CPU_HOST);
    for (const of of [plan, cpu]) {
      const checks = compareProof(of, goodProof(of));
      expect(checks.map(({ status }) => status)).toEqual(checks.map(() => "pass"));
      expect(checks.length).toBeGreaterThanOrEqual(6);
    }
    expect(compareProof(plan, goodProof(plan))[0]).toMatchObject({ name: "generates", seconds: 0.4 });
  });

  it.each<[string, Partial<Proof>]>([
    ["generates", { generated: { text: " ", tokens: 3, seconds: 1 } }],
    ["generates", { generated: { text: "", tokens: 0, seconds: 1 } }],
    ["model", { models: ["another"] }],
    ["tensor parallel size", { tensorParallel: 2 }],
    ["replicas", { replicas: 1 }],
    ["GPUs in use", { workers: [{ pid: 1, rank: 0, gpuIndex: 0 }] }],
    ["tokens a request", { maxModelLen: 2048 }],
    ["KV cache", { kvCacheTokens: 1000 }],
  ])("fails %s when it was not kept", (name, broken) => {
    expect(statusOf({ ...goodProof(plan), ...broken }, name)).toBe("fail");
  });

  it.each<[string, Partial<Proof>]>([
    ["generates", { generated: { text: "Paris", tokens: 1, seconds: 90 } }],
    ["tensor parallel size", { tensorParallel: undefined }],
    ["GPUs in use", { workers: [{ pid: 1, rank: 0 }] }],
    ["KV cache", { kvCacheTokens: Math.round(plan.kvCacheTokens * 0.95) }],
    ["memory of GPU 1", { gpus: [] }],
  ])("warns of %s when it is slow, near, or can't be told", (name, broken) => {
    expect(statusOf({ ...goodProof(plan), ...broken }, name)).toBe("warn");
  });

  it.each([
    [0.01, "pass"],
    [0.03, "warn"],
    [-0.03, "warn"],
    [0.06, "fail"],
    [-0.3, "warn"],
  ] as const)("calls a footprint that misses its share by %d of a card a %s", (miss, status) => {
    const good = goodProof(plan);
    const gpus = good.gpus.map((gpu) => ({ ...gpu, servingGiB: gpu.servingGiB + miss * gpu.totalGiB }));
    expect(statusOf({ ...good, gpus }, "memory of GPU 0")).toBe(status);
  });
});
