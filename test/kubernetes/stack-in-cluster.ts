import { podFiles } from "../../bootstrap/kubernetes/prepare";
import { readClusterFacts } from "../../bootstrap/kubernetes/facts";
import { builtInShape, formatProblem, type SettingsInput } from "../../plan";
import { gatewayKeys } from "../../plan/kubernetes-gateway";
import { kubernetesManifests, type ClusterManifests } from "../../plan/kubernetes-manifests";
import type { Manifest } from "../../plan/kubernetes-names";
import { planCluster } from "../../plan/kubernetes-prepare";
import type { TestCluster } from "../fixtures/kubernetes/cluster";
import { clusterSettings } from "./clusters";

const KEY = `tdm-${"a".repeat(43)}`;

/** Everything of a stack called like its namespace, planned on what the cluster says; `like` is the model whose shape a model's own has. */
export async function stackIn(
  cluster: TestCluster,
  namespace: string,
  raw: SettingsInput,
  like?: string,
): Promise<ClusterManifests> {
  const settings = clusterSettings({ ...raw, kubernetes: { ...raw.kubernetes, namespace } });
  const facts = await readClusterFacts(cluster.client, namespace);
  const shape = builtInShape(like ?? settings.model);
  if (shape === undefined) throw new Error(`no built-in shape of ${settings.model}`);
  const planned = planCluster(facts, shape, settings);
  if (planned.plan === undefined) throw new Error(planned.problems.map(formatProblem).join("\n"));
  const mark = { runId: "run-1", stack: namespace, owner: "me@here", createdAt: new Date("2026-11-25T22:00:00Z") };
  return kubernetesManifests({ ...planned, name: namespace, facts, files: podFiles(), mark });
}

/** The Secret that pods refer to. */
export function keysOf({ secretName }: ClusterManifests, namespace: string): Manifest {
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: secretName, namespace, labels: { "app.kubernetes.io/instance": namespace } },
    stringData: { apiKey: KEY, upstreamKey: KEY, "keys.conf": gatewayKeys({ default: KEY }, KEY) },
  };
}

/**
 * A volume for the claim of a pod: the test cluster has nobody who makes volumes. With `afterwards: "Delete"` the cluster deletes it with
 * its folder, which must be below /tmp, when its claim is gone.
 */
export function volume(
  name: string,
  more: { path: string; afterwards?: "Delete" | "Retain" } = { path: "/nowhere" },
): object {
  return {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name },
    spec: {
      capacity: { storage: "1Ti" },
      accessModes: ["ReadWriteOnce"],
      storageClassName: "standard",
      persistentVolumeReclaimPolicy: more.afterwards ?? "Retain",
      hostPath: { path: more.path },
    },
  };
}

export const STORAGE_CLASS = {
  apiVersion: "storage.k8s.io/v1",
  kind: "StorageClass",
  metadata: { name: "standard", annotations: { "storageclass.kubernetes.io/is-default-class": "true" } },
  provisioner: "kubernetes.io/no-provisioner",
};

/** What NVIDIA's DRA driver would publish for a node. */
export function draObjects(node: string, gpus: number): object[] {
  return [
    {
      apiVersion: "resource.k8s.io/v1",
      kind: "DeviceClass",
      metadata: { name: "gpu.nvidia.com" },
      spec: {
        selectors: [
          {
            cel: {
              expression: `device.driver == "gpu.nvidia.com" && device.attributes["gpu.nvidia.com"].type == "gpu"`,
            },
          },
        ],
      },
    },
    {
      apiVersion: "resource.k8s.io/v1",
      kind: "ResourceSlice",
      metadata: { name: `${node}-gpus` },
      spec: {
        driver: "gpu.nvidia.com",
        nodeName: node,
        pool: { name: node, generation: 1, resourceSliceCount: 1 },
        devices: Array.from({ length: gpus }, (_, index) => ({
          name: `gpu-${index}`,
          attributes: {
            type: { string: "gpu" },
            productName: { string: "NVIDIA H100 80GB HBM3" },
            driverVersion: { version: "580.126.9" },
          },
          capacity: { memory: { value: "81559Mi" } },
        })),
      },
    },
  ];
}
