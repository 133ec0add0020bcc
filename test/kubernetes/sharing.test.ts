import { describe, expect, it } from "vitest";
import { cluster, cpuNode, dra, gpuNode, planIn } from "./clusters";

const TRAINS = { training: { backend: "megatron-bridge" }, gpus: 1 } as const;
const withDra = cluster([gpuNode("b")], { dra: dra(["b"]) });
const withoutDra = cluster([gpuNode("b")]);

const kindOf = (...[facts, raw]: Parameters<typeof planIn>) => {
  const planned = planIn(facts, raw);
  return planned.plan === undefined ? planned.problems.map(({ setting }) => setting) : planned.sharing.kind;
};

describe("sharing a pod's GPUs", () => {
  it("is one claim for two containers where the cluster has NVIDIA's DRA driver, else one container for both", () => {
    expect(kindOf(withDra, TRAINS)).toBe("dra");
    expect(kindOf(withoutDra, TRAINS)).toBe("single-container");
    expect(kindOf(withDra, { ...TRAINS, kubernetes: { gpuSharing: "single-container" } })).toBe("single-container");
  });

  it("is told by DeviceClass and ResourceSlices, not by the cluster's version", () => {
    const offered = dra(["b"]);
    expect(kindOf(cluster([gpuNode("b")], { dra: { ...offered, deviceClasses: [] } }), TRAINS)).toBe(
      "single-container",
    );
    expect(kindOf(cluster([gpuNode("b")], { dra: { ...offered, slices: [] } }), TRAINS)).toBe("single-container");
    expect(kindOf(cluster([gpuNode("b")], { dra: dra(["elsewhere"]) }), TRAINS)).toBe("single-container");
  });

  it("is not needed where nothing trains or nothing has GPUs", () => {
    expect(kindOf(withDra, { gpus: 1 })).toBe("device-plugin");
    const images = { serving: "registry.example.com/vllm-cpu:1" };
    expect(kindOf(cluster([cpuNode("a")]), { gpus: 0, kubernetes: { images } })).toBe("no-gpu");
  });

  it("claims GPUs that only the DRA driver hands out, also when nothing trains", () => {
    const node = cpuNode("b", { allocatable: { gpus: 0, cpuCores: 96, memoryGiB: 1024, diskGiB: 1 } });
    expect(kindOf(cluster([node], { dra: dra(["b"], 1) }))).toBe("dra");
    expect(
      kindOf(cluster([node], { dra: dra(["b"], 1) }), { kubernetes: { gpuSharing: "single-container" }, ...TRAINS }),
    ).toEqual(["kubernetes.gpuSharing"]);
  });

  it("refuses claims in a cluster that can't make them, and says what is missing", () => {
    const raw = { ...TRAINS, kubernetes: { gpuSharing: "dra" } } as const;
    const problem = (facts: typeof withDra) => planIn(facts, raw).problems[0]?.what;
    expect(problem(withoutDra)).toContain("does not serve resource.k8s.io");
    expect(problem(cluster([gpuNode("b")], { dra: { ...dra(["b"]), deviceClasses: [] } }))).toContain(
      "no DeviceClass gpu.nvidia.com",
    );
    expect(problem(cluster([gpuNode("b")], { dra: dra([]) }))).toContain("no ResourceSlice");
  });

  it("is said aloud in the plan", () => {
    expect(planIn(withoutDra, TRAINS).plan?.reasons[0]).toContain(
      "vLLM and the trainer in one container, since this cluster has no NVIDIA DRA driver",
    );
    expect(planIn(withDra, TRAINS).plan?.reasons[0]).toContain("one claim on the GPUs for both");
  });
});
