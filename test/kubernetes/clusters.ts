import { builtInShape, formatProblem, parseSettings, type Settings, type SettingsInput } from "../../plan";
import type { ClusterFacts, ClusterNode } from "../../plan/kubernetes-facts";
import { kubernetesManifests, type ClusterManifests } from "../../plan/kubernetes-manifests";
import type { Manifest } from "../../plan/kubernetes-names";
import { planCluster, type ClusterPlan } from "../../plan/kubernetes-prepare";

/** Labels as GPU feature discovery 0.17 sets them on a machine with 8 H100. */
const H100_LABELS = {
  "kubernetes.io/arch": "amd64",
  "kubernetes.io/os": "linux",
  "nvidia.com/gpu.present": "true",
  "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
  "nvidia.com/gpu.memory": "81559",
  "nvidia.com/gpu.count": "8",
  "nvidia.com/gpu.replicas": "1",
  "nvidia.com/gpu.family": "hopper",
  "nvidia.com/gpu.compute.major": "9",
  "nvidia.com/gpu.compute.minor": "0",
  "nvidia.com/gpu.sharing-strategy": "none",
  "nvidia.com/mig.capable": "true",
  "nvidia.com/mig.strategy": "single",
  "nvidia.com/cuda.driver-version.full": "580.126.09",
};

export function gpuNode(name: string, change: Partial<ClusterNode> = {}): ClusterNode {
  return {
    name,
    labels: H100_LABELS,
    taints: [{ key: "nvidia.com/gpu", value: "present", effect: "NoSchedule" }],
    isReady: true,
    isUnschedulable: false,
    allocatable: { gpus: 8, cpuCores: 96, memoryGiB: 1024, diskGiB: 800 },
    requested: { gpus: 0, cpuCores: 0, memoryGiB: 0, diskGiB: 0 },
    ...change,
  };
}

export function cpuNode(name: string, change: Partial<ClusterNode> = {}): ClusterNode {
  return {
    name,
    labels: { "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux" },
    taints: [],
    isReady: true,
    isUnschedulable: false,
    allocatable: { gpus: 0, cpuCores: 2, memoryGiB: 24, diskGiB: 100 },
    requested: { gpus: 0, cpuCores: 0, memoryGiB: 0, diskGiB: 0 },
    ...change,
  };
}

export function cluster(nodes: readonly ClusterNode[], change: Partial<ClusterFacts> = {}): ClusterFacts {
  return {
    context: "lab",
    serverVersion: "v1.36.3",
    nodes,
    gpuOperator: {},
    storageClasses: [{ name: "standard", isDefault: true }],
    priorityClasses: ["system-cluster-critical"],
    runtimeClasses: [],
    ingressClasses: [],
    hasHttpRoutes: false,
    hasServiceMonitors: false,
    ...change,
  };
}

/** What NVIDIA's DRA driver offers on the nodes. */
export function dra(nodes: readonly string[], devices = 8): NonNullable<ClusterFacts["dra"]> {
  return {
    apiVersion: "v1",
    deviceClasses: ["gpu.nvidia.com", "mig.nvidia.com"],
    slices: nodes.map((node) => ({
      driver: "gpu.nvidia.com",
      node,
      devices: Array.from({ length: devices }, (_, index) => ({
        name: `gpu-${index}`,
        type: "gpu",
        productName: "NVIDIA H100 80GB HBM3",
        memoryGiB: 79.6,
        driverVersion: "580.126.09",
      })),
    })),
  };
}

/** Settings of `target: kubernetes`; must be valid. */
export function clusterSettings(raw: SettingsInput = {}): Settings {
  const { settings, problems } = parseSettings({ target: "kubernetes", ...raw });
  if (settings === undefined) throw new Error(problems.map(formatProblem).join("\n"));
  return settings;
}

export function planIn(facts: ClusterFacts, raw: SettingsInput = {}): ClusterPlan {
  const settings = clusterSettings(raw);
  const shape = builtInShape(settings.model);
  if (shape === undefined) throw new Error(`no built-in shape of ${settings.model}`);
  return planCluster(facts, shape, settings);
}

/** All objects of a stack called `demo`. */
export function manifestsIn(facts: ClusterFacts, raw: SettingsInput = {}): ClusterManifests {
  const planned = planIn(facts, raw);
  if (planned.plan === undefined) throw new Error(planned.problems.map(formatProblem).join("\n"));
  return kubernetesManifests({
    ...planned,
    name: "demo",
    facts,
    files: { scripts: { "probe.py": "print()" }, trainer: { "__main__.py": "" } },
    mark: {
      runId: "run-1",
      stack: "demo",
      owner: "me@here",
      createdAt: new Date("2026-11-25T22:00:00Z"),
      expiresAt: new Date("2026-11-26T02:00:00Z"),
    },
  });
}

export function objectOf({ objects }: ClusterManifests, kind: string, name?: string): Manifest {
  const found = objects.filter(
    (object) => object.kind === kind && (name === undefined || object.metadata.name === name),
  );
  if (found.length !== 1) throw new Error(`${found.length} objects of kind ${kind}`);
  return found[0]!;
}

interface Env {
  readonly name: string;
  readonly value?: string;
}

/** The parts of a pod that tests look at. */
interface PodSpec {
  readonly nodeSelector: Record<string, string>;
  readonly tolerations: { key?: string }[];
  readonly resourceClaims?: unknown[];
  readonly priorityClassName?: string;
  readonly runtimeClassName?: string;
  readonly containers: Container[];
  readonly initContainers: Container[];
  readonly securityContext: Record<string, unknown>;
  readonly volumes: { name: string; emptyDir?: { medium?: string; sizeLimit?: string } }[];
}
export interface Container {
  readonly name: string;
  readonly image: string;
  readonly command: string[];
  readonly args?: string[];
  readonly env?: Env[];
  readonly resources: { limits?: Record<string, string>; requests?: Record<string, string>; claims?: unknown[] };
  readonly securityContext: { capabilities: unknown; allowPrivilegeEscalation: boolean; runAsNonRoot: boolean };
  readonly startupProbe?: { failureThreshold: number; periodSeconds: number };
}

interface StatefulSetSpec {
  readonly replicas: number;
  readonly template: { metadata: { annotations: Record<string, string> }; spec: PodSpec };
  readonly persistentVolumeClaimRetentionPolicy: { whenDeleted: string };
  readonly volumeClaimTemplates: {
    spec: { storageClassName?: string; resources: { requests: { storage: string } } };
  }[];
}

export function statefulSetIn(manifests: ClusterManifests): StatefulSetSpec {
  return objectOf(manifests, "StatefulSet")["spec"] as StatefulSetSpec;
}

export function podIn(manifests: ClusterManifests): PodSpec {
  return statefulSetIn(manifests).template.spec;
}

export function containerIn(manifests: ClusterManifests, name: string): Container {
  const { containers, initContainers } = podIn(manifests);
  const found = [...containers, ...initContainers].find((container) => container.name === name);
  if (found === undefined) throw new Error(`no container ${name}`);
  return found;
}
