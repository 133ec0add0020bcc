import type { CoreV1Event, V1Pod } from "@kubernetes/client-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { canRunCluster, kwokNode, startCluster, type TestCluster } from "../fixtures/kubernetes/cluster";
import { draObjects } from "./stack-in-cluster";

/**
 * What the real scheduler and the real controllers say of pods that can't be: said.json holds it, words.test.ts turns it into words.
 * After a change of Kubernetes' version: vitest run --update, and read the difference.
 */
const canRun = canRunCluster();
const GPU = "nvidia.com/gpu";
const PRODUCT = { "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3" };
const TOLERATION = { key: GPU, operator: "Exists" };
let cluster: TestCluster;

interface Wish {
  readonly resources?: Readonly<Record<string, string>>;
  readonly selector?: Readonly<Record<string, string>>;
  readonly tolerations?: readonly object[];
  readonly claim?: string;
  readonly devices?: string;
}

const pod = (name: string, wish: Wish): object => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: "default" },
  spec: {
    nodeSelector: wish.selector ?? {},
    tolerations: wish.tolerations ?? [TOLERATION],
    ...(wish.devices !== undefined && {
      resourceClaims: [{ name: "gpus", resourceClaimTemplateName: wish.devices }],
    }),
    containers: [
      {
        name: "serving",
        image: "registry.example.com/vllm:1",
        resources: {
          requests: wish.resources ?? {},
          limits: wish.resources ?? {},
          ...(wish.devices !== undefined && { claims: [{ name: "gpus" }] }),
        },
      },
    ],
    volumes: wish.claim === undefined ? [] : [{ name: "cache", persistentVolumeClaim: { claimName: wish.claim } }],
  },
});

const claim = (name: string, storageClassName: string): object => ({
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: { name, namespace: "default" },
  spec: { accessModes: ["ReadWriteOnce"], storageClassName, resources: { requests: { storage: "1Gi" } } },
});

const storageClass = (name: string, volumeBindingMode: string): object => ({
  apiVersion: "storage.k8s.io/v1",
  kind: "StorageClass",
  metadata: { name },
  provisioner: "kubernetes.io/no-provisioner",
  volumeBindingMode,
});

/** A volume that only one node reaches, bound to its claim. */
const volumeOn = (node: string, of: string): object => ({
  apiVersion: "v1",
  kind: "PersistentVolume",
  metadata: { name: of },
  spec: {
    capacity: { storage: "1Gi" },
    accessModes: ["ReadWriteOnce"],
    storageClassName: "now",
    claimRef: { namespace: "default", name: of },
    hostPath: { path: "/nowhere" },
    nodeAffinity: {
      required: {
        nodeSelectorTerms: [{ matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values: [node] }] }],
      },
    },
  },
});

/** A StatefulSet whose pod the cluster refuses. */
const set = (namespace: string): object => ({
  apiVersion: "apps/v1",
  kind: "StatefulSet",
  metadata: { name: "demo", namespace },
  spec: {
    serviceName: "demo",
    selector: { matchLabels: { app: "demo" } },
    template: {
      metadata: { labels: { app: "demo" } },
      spec: {
        hostNetwork: namespace === "strict",
        containers: [{ name: "serving", image: "x", resources: { limits: { [GPU]: "4" } } }],
      },
    },
  },
});

const space = (name: string, labels: Readonly<Record<string, string>> = {}): object => ({
  apiVersion: "v1",
  kind: "Namespace",
  metadata: { name, labels },
});

const WISHES: Readonly<Record<string, Wish>> = {
  "too-many-gpus": { resources: { [GPU]: "16" }, selector: PRODUCT },
  "too-much-memory": { resources: { memory: "4Ti" }, selector: PRODUCT },
  "too-much-of-both": { resources: { [GPU]: "16", cpu: "200" }, selector: PRODUCT },
  "no-such-label": { selector: { pool: "nowhere" } },
  "not-tolerated": { resources: { [GPU]: "4" }, selector: PRODUCT, tolerations: [] },
  "claim-too-large": { devices: "large", selector: PRODUCT },
  "volume-of-no-class": { claim: "no-class" },
  "volume-not-there": { claim: "later" },
  "volume-elsewhere": { claim: "elsewhere", selector: PRODUCT },
  "no-claim": { claim: "missing" },
};

beforeAll(async () => {
  if (canRun) cluster = await startCluster({ kwok: true });
});
afterAll(() => (canRun ? cluster.close() : undefined));

async function until<Value>(look: () => Promise<Value | undefined>, what: string): Promise<Value> {
  for (const deadline = Date.now() + 60_000; ;) {
    const value = await look();
    if (value !== undefined) return value;
    if (Date.now() > deadline) throw new Error(`${what} did not come within 60 s`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** The scheduler's message about a pod that no node takes. */
const refusal = (name: string): Promise<string> =>
  until(async () => {
    const { status }: V1Pod = await cluster.client.core.readNamespacedPod({ namespace: "default", name });
    return status?.conditions?.find(({ type, status: is }) => type === "PodScheduled" && is === "False")?.message;
  }, `the scheduler's word about ${name}`);

const event = (namespace: string, is: (event: CoreV1Event) => boolean): Promise<string> =>
  until(
    async () => (await cluster.client.core.listNamespacedEvent({ namespace })).items.find(is)?.message,
    `an event in ${namespace}`,
  );

/** Nodes with GPUs and every reason that a node may have to take no pod. */
async function makeNodes(): Promise<void> {
  const node = kwokNode as (name: string, gpus: number) => { metadata: { labels: object }; spec: object };
  const control = node("control-0", 0);
  const plain = node("plain-0", 0);
  const cordoned = node("cordoned-0", 8);
  const nodes = [
    node("gpu-0", 8),
    node("gpu-1", 8),
    { ...control, spec: { taints: [{ key: "node-role.kubernetes.io/control-plane", effect: "NoSchedule" }] } },
    { ...plain, metadata: { ...plain.metadata, labels: {} } },
    { ...cordoned, spec: { ...cordoned.spec, unschedulable: true } },
  ];
  for (const one of nodes) await cluster.create(one);
  await until(async () => {
    const { items } = await cluster.client.core.listNode();
    const keys = items.flatMap(({ spec }) => spec?.taints ?? []).map(({ key }) => key);
    return !keys.includes("node.kubernetes.io/not-ready") && keys.includes("node.kubernetes.io/unschedulable")
      ? true
      : undefined;
  }, "the nodes");
}

describe.skipIf(!canRun)("a real cluster", () => {
  it("says why pods can't be, as recorded", async () => {
    const { create, client } = cluster;
    const said: Record<string, string> = {};
    await create(pod("no-nodes", {}));
    said["no-nodes"] = await refusal("no-nodes");
    await client.core.deleteNamespacedPod({ namespace: "default", name: "no-nodes", gracePeriodSeconds: 0 });
    await makeNodes();
    for (const object of draObjects("gpu-0", 4)) await create(object);
    const exactly = { deviceClassName: "gpu.nvidia.com", allocationMode: "ExactCount", count: 8 };
    await create({
      apiVersion: "resource.k8s.io/v1",
      kind: "ResourceClaimTemplate",
      metadata: { name: "large", namespace: "default" },
      spec: { spec: { devices: { requests: [{ name: "gpus", exactly }] } } },
    });
    for (const object of [storageClass("now", "Immediate"), storageClass("late", "WaitForFirstConsumer")])
      await create(object);
    for (const object of [claim("no-class", "fast"), claim("later", "late"), claim("elsewhere", "now")])
      await create(object);
    await create(volumeOn("plain-0", "elsewhere"));
    await until(async () => {
      const { status } = await client.core.readNamespacedPersistentVolumeClaim({
        namespace: "default",
        name: "elsewhere",
      });
      return status?.phase === "Bound" ? true : undefined;
    }, "the binding of a volume");
    for (const [name, wish] of Object.entries(WISHES)) await create(pod(name, wish));
    for (const name of Object.keys(WISHES)) said[name] = await refusal(name);
    said["no-class: ProvisioningFailed"] = await event(
      "default",
      ({ reason, involvedObject }) => reason === "ProvisioningFailed" && involvedObject.name === "no-class",
    );

    await create(space("full"));
    await create(space("strict", { "pod-security.kubernetes.io/enforce": "restricted" }));
    await create({
      apiVersion: "v1",
      kind: "ResourceQuota",
      metadata: { name: "gpus", namespace: "full" },
      spec: { hard: { [`requests.${GPU}`]: "2" } },
    });
    for (const namespace of ["full", "strict"]) {
      await create(set(namespace));
      said[`${namespace}: FailedCreate`] = await event(namespace, ({ reason }) => reason === "FailedCreate");
    }
    await expect(`${JSON.stringify(said, undefined, 2)}\n`).toMatchFileSnapshot("said.json");
  });
});
