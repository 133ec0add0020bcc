import { describe, expect, it } from "vitest";
import { parseSettings, type SettingsInput } from "../../plan";
import type { ClusterFacts } from "../../plan/kubernetes-facts";
import { judgeCluster } from "../../plan/kubernetes-verdicts";
import { cluster, clusterSettings, cpuNode, dra, gpuNode, planIn } from "./clusters";

const judge = (facts: ClusterFacts, raw: SettingsInput = {}) => {
  const { verdicts, chosen, gpus } = judgeCluster(facts, clusterSettings(raw));
  return { fails: verdicts.filter(({ level }) => level === "fail"), verdicts, chosen: chosen?.node.name, gpus };
};

describe("judging a cluster", () => {
  it("takes all GPUs of a node and says what they are and which driver they have", () => {
    const { fails, verdicts, chosen, gpus } = judge(cluster([cpuNode("a"), gpuNode("b"), gpuNode("c")]));
    expect({ fails, chosen, gpus }).toEqual({ fails: [], chosen: "b", gpus: 8 });
    expect(verdicts.map(({ text }) => text)).toEqual([
      "2 node(s) have 8 GPUs or more, such as b with 8 × NVIDIA-H100-80GB-HBM3",
      "driver 580.126.09",
      "no GPU Operator: the device plugin and the driver are somebody else's",
    ]);
  });

  it("never plans for fewer GPUs than were asked for, and says what there is", () => {
    const { fails, chosen } = judge(cluster([gpuNode("b")]), { gpus: 16 });
    expect(chosen).toBeUndefined();
    expect(fails).toMatchObject([
      { code: "gpus-too-few", text: "no node has 16 GPUs; b has 8", cure: expect.stringContaining("`gpus` to 8") },
    ]);
  });

  it("does not fall back to the CPU because GPUs can't be used", () => {
    const tainted = gpuNode("b", { taints: [{ key: "maintenance", effect: "NoSchedule" }] });
    expect(judge(cluster([cpuNode("a"), tainted])).fails).toMatchObject([{ code: "no-gpu", setting: "gpus" }]);
  });

  it.each([
    [{ isReady: false }, "b is not ready"],
    [{ isUnschedulable: true }, "b is cordoned"],
    [{ taints: [{ key: "dedicated", value: "db", effect: "NoSchedule" }] }, "b has the taint dedicated"],
    [{ labels: {} }, "b lacks what nodeSelector or gpuType asks for"],
  ])("says why no pod may run on a node: %j", (change, why) => {
    const raw = { kubernetes: { nodeSelector: { "kubernetes.io/arch": "amd64" } } };
    expect(judge(cluster([gpuNode("b", change)]), raw).fails[0]).toMatchObject({
      code: "no-node",
      text: expect.stringContaining(why),
    });
  });

  it("tolerates what the settings tolerate", () => {
    const node = gpuNode("b", { taints: [{ key: "dedicated", value: "llm", effect: "NoSchedule" }] });
    const tolerations = [{ key: "dedicated", operator: "Equal" as const, value: "llm" }];
    expect(judge(cluster([node]), { kubernetes: { tolerations } }).chosen).toBe("b");
    const wrong = [{ key: "dedicated", operator: "Equal" as const, value: "db" }];
    expect(judge(cluster([node]), { kubernetes: { tolerations: wrong } }).fails).toMatchObject([{ code: "no-node" }]);
  });

  it.each([
    [
      "time slicing",
      { "nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-SHARED" },
      "gpus-shared",
    ],
    ["MIG", { "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb" }, "gpus-mig"],
    ["an old driver", { "nvidia.com/cuda.driver-version.full": "535.183.01" }, "driver-too-old"],
  ])("refuses %s", (_what, labels, code) => {
    const base = gpuNode("b");
    expect(judge(cluster([{ ...base, labels: { ...base.labels, ...labels } }])).fails).toMatchObject([{ code }]);
  });

  it("reads the driver's version from the labels of older releases", () => {
    const { "nvidia.com/cuda.driver-version.full": _new, ...labels } = gpuNode("b").labels;
    const old = {
      "nvidia.com/cuda.driver.major": "550",
      "nvidia.com/cuda.driver.minor": "54",
      "nvidia.com/cuda.driver.rev": "15",
    };
    expect(judge(cluster([gpuNode("b", { labels: { ...labels, ...old } })])).fails[0]?.text).toContain("550.54.15");
    expect(judge(cluster([gpuNode("b", { labels })])).verdicts).toContainEqual(
      expect.objectContaining({ code: "driver-unknown", level: "warn" }),
    );
  });

  it("says that GPUs are there and nobody hands them out", () => {
    const node = gpuNode("b", { allocatable: { gpus: 0, cpuCores: 96, memoryGiB: 1024, diskGiB: 1 } });
    expect(judge(cluster([node])).fails).toMatchObject([
      { code: "no-gpu", text: expect.stringContaining("none of them is handed out") },
    ]);
  });

  it("warns of GPUs that are in use just now, since their pods will wait", () => {
    const busy = gpuNode("b", { requested: { gpus: 6, cpuCores: 0, memoryGiB: 0, diskGiB: 0 } });
    expect(judge(cluster([busy])).verdicts).toContainEqual(
      expect.objectContaining({ code: "gpus-busy", level: "warn" }),
    );
    expect(planIn(cluster([busy])).plan?.warnings[0]).toContain("will wait");
  });

  it("knows GPUs by a DRA driver alone", () => {
    const node = cpuNode("b", { allocatable: { gpus: 0, cpuCores: 96, memoryGiB: 1024, diskGiB: 1 } });
    const { fails, gpus, chosen } = judge(cluster([node], { dra: dra(["b"], 4) }));
    expect({ fails, gpus, chosen }).toEqual({ fails: [], gpus: 4, chosen: "b" });
  });

  it.each([
    ["a storage class that is not there", { storageClass: "fast" }, {}, "storage-class", "one of standard"],
    [
      "no default storage class",
      {},
      { storageClasses: [{ name: "slow", isDefault: false }] },
      "storage-class",
      "set it to one of slow",
    ],
    ["a priority class", { priorityClass: "gold" }, {}, "priority-class", "one of system-cluster-critical"],
    ["a runtime class", { runtimeClass: "nvidia" }, {}, "runtime-class", "leave it out"],
    [
      "an Ingress without a controller",
      { expose: "ingress", host: "a.example.com", allowNamespaces: ["x"] },
      {},
      "ingress-class",
      "install a controller",
    ],
    [
      "routes that nobody serves",
      { expose: "gateway-api", host: "a.example.com", gatewayName: "g", allowNamespaces: ["x"] },
      {},
      "gateway-api",
      "install the Gateway API",
    ],
    ["a monitor that nobody reads", { serviceMonitor: true }, {}, "service-monitor", "install it"],
    [
      "a namespace that is missing",
      { createNamespace: false },
      {},
      "namespace-missing",
      "kubectl create namespace tandem",
    ],
    [
      "a namespace of somebody else",
      {},
      { namespace: { labels: {}, annotations: {} } },
      "namespace-taken",
      "choose another",
    ],
  ] as const)("refuses %s before anything is made", (_what, kubernetes, change, code, cure) => {
    const raw = { kubernetes } as unknown as SettingsInput;
    expect(judge(cluster([gpuNode("b")], change as Partial<ClusterFacts>), raw).fails).toMatchObject([
      { code, cure: expect.stringContaining(cure) },
    ]);
  });

  it("takes its own namespace again", () => {
    const namespace = { labels: { "app.kubernetes.io/managed-by": "tandem" }, annotations: {} };
    expect(judge(cluster([gpuNode("b")], { namespace })).fails).toEqual([]);
  });

  it("reports the cluster's problems and the model's together", () => {
    const { problems } = planIn(cluster([gpuNode("b")]), { tensorParallel: 2, kubernetes: { priorityClass: "gold" } });
    expect(problems.map(({ setting }) => setting)).toEqual(["kubernetes.priorityClass", "tensorParallel"]);
  });
});

describe("settings of a cluster", () => {
  it.each([
    [{ kubernetes: { pods: 2 }, training: { backend: "huggingface" } }, "kubernetes.pods"],
    [{ kubernetes: { expose: "ingress", allowNamespaces: ["a"] } }, "kubernetes.host"],
    [{ kubernetes: { expose: "ingress", host: "a.example.com" } }, "kubernetes.allowNamespaces"],
    [
      { kubernetes: { expose: "gateway-api", host: "a.example.com", allowNamespaces: ["a"] } },
      "kubernetes.gatewayName",
    ],
    [{ gpus: 0 }, "kubernetes.images.serving"],
    [{ ttl: "4h", kubernetes: { createNamespace: false } }, "ttl"],
    [{ devices: [0] }, "devices"],
    [{ exposure: "private", gateway: { enabled: true } }, "exposure"],
  ] as [SettingsInput, string][])("%j is refused because of %s", (raw, setting) => {
    expect(parseSettings({ target: "kubernetes", ...raw }).problems.map((problem) => problem.setting)).toEqual([
      setting,
    ]);
  });

  it("are nobody's concern on other targets", () => {
    expect(parseSettings({ devices: [0] }).problems).toEqual([]);
  });
});
