import { CUDA_13_DRIVER_BRANCH } from "./driver";
import type { GpuFacts, HostFacts } from "./facts";
import { findGpuType, gpuTypes } from "./gpu-types";
import { GPU_DEVICE_CLASS, type ClusterFacts, type ClusterNode } from "./kubernetes-facts";
import type { Settings } from "./settings";

const MIB_PER_GIB = 1024;
const USUAL_TOLERATION = "nvidia.com/gpu";
const NVLINK_MACHINES = /H100|H200|B200|B300|A100-SXM|HGX|DGX|GB200/i;

/** GPUs of one node as the cluster shows them. */
export interface NodeGpus {
  readonly count: number;
  /** As the label or the ResourceSlice says it, e.g. `NVIDIA-H100-80GB-HBM3`. */
  readonly product: string;
  readonly memoryGiB?: number;
  readonly computeCapability?: string;
  readonly driverVersion?: string;
  /** How often each is handed out: 1 for whole GPUs. */
  readonly sharedBy: number;
  /** `mig` where only parts are handed out. */
  readonly kind: "whole" | "mig";
  /** Who hands them out. */
  readonly by: readonly ("device-plugin" | "dra")[];
}

/** Whether a pod of these settings may run on the node: selector and taints. */
export function admits(node: ClusterNode, { kubernetes }: Pick<Settings, "kubernetes">): boolean {
  const fits = Object.entries(kubernetes.nodeSelector).every(([name, value]) => node.labels[name] === value);
  return fits && node.isReady && !node.isUnschedulable && untoleratedTaints(node, { kubernetes }).length === 0;
}

/** Taints of the node that keep the pods away. */
export function untoleratedTaints(
  { taints }: ClusterNode,
  { kubernetes }: Pick<Settings, "kubernetes">,
): ClusterNode["taints"] {
  return taintsInTheWay(taints, [{ key: USUAL_TOLERATION, operator: "Exists" }, ...kubernetes.tolerations]);
}

/** Taints that keep a pod away which tolerates those. */
export function taintsInTheWay(
  taints: ClusterNode["taints"],
  tolerations: readonly Partial<Record<"key" | "operator" | "value" | "effect", string>>[],
): ClusterNode["taints"] {
  return taints.filter(
    (taint) =>
      taint.effect !== "PreferNoSchedule" &&
      !tolerations.some(
        ({ key, operator = "Equal", value, effect }) =>
          (key === undefined ? operator === "Exists" : key === taint.key) &&
          (operator === "Exists" || (value ?? "") === (taint.value ?? "")) &&
          (effect === undefined || effect === taint.effect),
      ),
  );
}

/**
 * What GPU feature discovery's labels, the device plugin and the DRA driver say of a node's GPUs; undefined for a node that has none.
 * Where only one of them speaks, the rest comes from the catalogue by the product's name.
 */
export function nodeGpus(node: ClusterNode, facts: Pick<ClusterFacts, "dra">): NodeGpus | undefined {
  const { labels } = node;
  const devices = (facts.dra?.slices ?? [])
    .filter((slice) => slice.driver === GPU_DEVICE_CLASS && slice.node === node.name)
    .flatMap((slice) => slice.devices);
  const whole = devices.filter(({ type }) => type === undefined || type === "gpu");
  const sharedBy = Number(labels["nvidia.com/gpu.replicas"] ?? "1") || 1;
  const labelled = Number(labels["nvidia.com/gpu.count"] ?? "0") || 0;
  const handedOut = Math.floor(node.allocatable.gpus / sharedBy);
  const count = Math.max(handedOut, whole.length);
  if (count === 0 && devices.length === 0 && labelled === 0) return undefined;
  const product = (labels["nvidia.com/gpu.product"] ?? whole[0]?.productName ?? "").replace(/-SHARED$/, "");
  const known = gpuTypes.find(({ model }) => plainName(model) === plainName(product));
  const memoryMib = Number(labels["nvidia.com/gpu.memory"] ?? "0");
  const major = labels["nvidia.com/gpu.compute.major"];
  const isMig = labels["nvidia.com/mig.strategy"] === "single" && /MIG/.test(labels["nvidia.com/gpu.product"] ?? "");
  return {
    count,
    product: product === "" ? "unknown" : product,
    memoryGiB: memoryMib > 0 ? memoryMib / MIB_PER_GIB : (whole[0]?.memoryGiB ?? known?.memoryGiB),
    computeCapability:
      major === undefined ? known?.computeCapability : `${major}.${labels["nvidia.com/gpu.compute.minor"] ?? "0"}`,
    driverVersion: driverVersion(labels) ?? whole[0]?.driverVersion,
    sharedBy,
    kind: isMig || (whole.length === 0 && devices.length > 0) ? "mig" : "whole",
    by: [...(handedOut > 0 ? (["device-plugin"] as const) : []), ...(devices.length > 0 ? (["dra"] as const) : [])],
  };
}

/** GPU feature discovery names it in one label since 0.16, in three before. */
function driverVersion(labels: ClusterNode["labels"]): string | undefined {
  const full = labels["nvidia.com/cuda.driver-version.full"];
  if (full !== undefined) return full;
  const parts = ["major", "minor", "rev"].map((part) => labels[`nvidia.com/cuda.driver.${part}`]);
  const given = parts.filter((part) => part !== undefined && part !== "");
  return given.length === 0 ? undefined : given.join(".");
}

function plainName(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
}

/** A node that pods may run on, with its GPUs. */
export interface Candidate {
  readonly node: ClusterNode;
  readonly gpus?: NodeGpus;
}

/** Nodes that pods may run on, best first: most GPU memory, then the name, so that the choice is the same each time. */
export function candidateNodes(facts: ClusterFacts, settings: Settings): Candidate[] {
  const wantedModel = settings.gpuType === undefined ? undefined : findGpuType(settings.gpuType)?.model;
  return facts.nodes
    .filter((node) => admits(node, settings))
    .map((node) => ({ node, gpus: nodeGpus(node, facts) }))
    .filter(({ gpus }) => wantedModel === undefined || (gpus && plainName(gpus.product) === plainName(wantedModel)))
    .toSorted((left, right) => score(right) - score(left) || left.node.name.localeCompare(right.node.name));
}

function score({ node, gpus }: Candidate): number {
  return gpus?.kind === "whole" && gpus.sharedBy === 1
    ? gpus.count * (gpus.memoryGiB ?? 1) * 1000
    : node.allocatable.memoryGiB / 1e6;
}

/**
 * The node as a host that can be planned for. Its GPUs are numbered from 0, as a pod sees those that it gets; what others use
 * of a node is the scheduler's matter and no part of the plan.
 */
export function hostOfNode({ node, gpus }: Candidate, count: number): HostFacts {
  const list: GpuFacts[] =
    gpus?.memoryGiB === undefined
      ? []
      : Array.from({ length: count }, (_, index) => ({
          index,
          uuid: `${node.name}-${index}`,
          model: gpus.product,
          memoryGiB: gpus.memoryGiB ?? 0,
          memoryUsedGiB: 0,
          computeCapability: gpus.computeCapability,
        }));
  const plenty = Number.MAX_SAFE_INTEGER;
  return {
    name: node.name,
    architecture: node.labels["kubernetes.io/arch"] ?? "amd64",
    operatingSystem: { id: "container", version: "" },
    cpuCores: Math.max(1, Math.floor(node.allocatable.cpuCores)),
    memoryTotalGiB: node.allocatable.memoryGiB,
    memoryAvailableGiB: node.allocatable.memoryGiB,
    // The volume is made as large as the plan needs it.
    cache: { path: "/cache", freeGiB: plenty },
    sharedMemoryGiB: node.allocatable.memoryGiB / 2,
    gpus: list,
    gpuLink: list.length < 2 ? "unknown" : NVLINK_MACHINES.test(gpus?.product ?? "") ? "nvlink" : "unknown",
    // Where nothing tells the version, a verdict warns of that, and the plan takes it to be new enough.
    driverVersion: list.length === 0 ? undefined : (gpus?.driverVersion ?? String(CUDA_13_DRIVER_BRANCH)),
    isRoot: false,
    serviceManager: "supervisor",
    pythons: [],
    // The images bring one.
    hasCCompiler: true,
    environment: {},
  };
}
