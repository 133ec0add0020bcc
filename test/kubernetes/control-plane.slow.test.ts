import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readClusterFacts } from "../../bootstrap/kubernetes/facts";
import { ownNamespaces, proveGone } from "../../bootstrap/kubernetes/gone";
import { waitForPods } from "../../bootstrap/kubernetes/wait";
import type { SettingsInput } from "../../plan";
import type { ClusterManifests } from "../../plan/kubernetes-manifests";
import { canRunCluster, kwokNode, startCluster, type TestCluster } from "../fixtures/kubernetes/cluster";
import { podIn } from "./clusters";
import { draObjects, keysOf, stackIn, STORAGE_CLASS, volume } from "./stack-in-cluster";

const BIG: SettingsInput = { model: "meta-llama/Llama-3.1-8B", gpus: 4, tensorParallel: 4 };
const TRAINS: SettingsInput = { ...BIG, training: { backend: "megatron-bridge" } };

let cluster: TestCluster;
const canRun = canRunCluster();

beforeAll(async () => {
  if (!canRun) return;
  cluster = await startCluster({ kwok: true });
  await cluster.create(STORAGE_CLASS);
  for (const [name, gpus] of [
    ["gpu-0", 8],
    ["gpu-1", 8],
  ] as const)
    await cluster.create(kwokNode(name, gpus));
  for (let index = 0; index < 4; index++) await cluster.create(volume(`volume-${index}`));
});
afterAll(() => (canRun ? cluster.close() : undefined));

/** Makes all objects of a stack, in their order. */
async function deploy(namespace: string, raw: SettingsInput): Promise<ClusterManifests> {
  const manifests = await stackIn(cluster, namespace, raw);
  const [space, ...others] = manifests.objects;
  for (const object of [space!, keysOf(manifests, namespace), ...others]) await cluster.create(object);
  return manifests;
}

async function wait(namespace: string, limitSeconds: number): Promise<string[]> {
  const lines: string[] = [];
  await waitForPods(cluster.client, { namespace, name: namespace, limitSeconds }, (line) => lines.push(line));
  return lines;
}

async function remove(namespace: string): Promise<void> {
  await cluster.client.core.deleteNamespace({ name: namespace });
  const target = { kubeconfig: cluster.kubeconfig };
  await proveGone({ target, namespace, name: namespace, ownsNamespace: true, keepsVolumes: true }, () => undefined, 60);
}

describe.skipIf(!canRun)("a real control plane", () => {
  it("tells what it is", async () => {
    const facts = await readClusterFacts(cluster.client, "tandem");
    expect(facts).toMatchObject({
      serverVersion: "v1.36.3",
      context: "lab",
      storageClasses: [{ name: "standard", isDefault: true }],
      dra: { apiVersion: "v1", deviceClasses: [], slices: [] },
      gpuOperator: {},
      hasHttpRoutes: false,
      hasServiceMonitors: false,
    });
    expect(facts.namespace).toBeUndefined();
    expect(facts.nodes.map(({ name, allocatable }) => [name, allocatable.gpus])).toEqual([
      ["gpu-0", 8],
      ["gpu-1", 8],
    ]);
  });

  it.each([
    ["plain", {}],
    ["with a trainer", { training: { backend: "megatron-bridge" } }],
    [
      "with several pods and an Ingress",
      {
        kubernetes: {
          pods: 2,
          expose: "ingress",
          host: "llm.example.com",
          tlsSecret: "llm",
          ingressClass: "nginx",
          allowNamespaces: ["edge"],
        },
      },
    ],
    [
      "placed",
      { kubernetes: { priorityClass: "system-cluster-critical", tolerations: [{ key: "a", operator: "Exists" }] } },
    ],
  ] as [string, SettingsInput][])("takes every object of a stack: %s", async (what, raw) => {
    const namespace = `check-${what.replaceAll(/[^a-z]+/g, "-")}`;
    if (raw.kubernetes?.ingressClass !== undefined) {
      await cluster.create({
        apiVersion: "networking.k8s.io/v1",
        kind: "IngressClass",
        metadata: { name: "nginx" },
        spec: { controller: "example.com/nginx" },
      });
    }
    const manifests = await stackIn(cluster, namespace, { ...BIG, ...raw });
    const [space, ...others] = manifests.objects;
    await cluster.create(space!);
    for (const object of [keysOf(manifests, namespace), ...others]) await cluster.create(object, true);
    // The namespace enforces the restricted standard on pods alone: the pod itself has to be accepted.
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "one", namespace },
      spec: { ...podIn(manifests), volumes: [...podIn(manifests).volumes, { name: "cache", emptyDir: {} }] },
    };
    await cluster.create(pod, true);
    await remove(namespace);
  });

  it("puts the pod on GPUs, and a second stack's on others", async () => {
    await deploy("one", BIG);
    await wait("one", 60);
    const { items } = await cluster.client.core.listNamespacedPod({ namespace: "one" });
    expect(items.map(({ metadata, spec }) => [metadata?.name, spec?.nodeName?.startsWith("gpu-")])).toEqual([
      ["one-0", true],
    ]);
    const facts = await readClusterFacts(cluster.client, "one");
    expect(facts.nodes.map(({ requested }) => requested.gpus).toSorted()).toEqual([0, 4]);
    expect(facts.namespace?.labels["app.kubernetes.io/managed-by"]).toBe("tandem");
  });

  it("says which resource is missing and which nodes nearly fit, while it waits", async () => {
    // Both nodes' GPUs are taken but three.
    for (const [node, gpus] of [
      ["gpu-0", 5],
      ["gpu-1", 5],
    ] as const) {
      const facts = await readClusterFacts(cluster.client, "one");
      const free = 8 - (facts.nodes.find(({ name }) => name === node)?.requested.gpus ?? 0);
      await cluster.create({
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: `other-${node}`, namespace: "default" },
        spec: {
          nodeName: node,
          containers: [
            { name: "x", image: "x", resources: { limits: { "nvidia.com/gpu": String(Math.min(gpus, free)) } } },
          ],
        },
      });
    }
    await deploy("two", { ...BIG, gpus: 8, tensorParallel: 8 });
    const lines: string[] = [];
    const waiting = waitForPods(cluster.client, { namespace: "two", name: "two", limitSeconds: 12 }, (line) =>
      lines.push(line),
    );
    await expect(waiting).rejects.toThrow(
      /the pods are not ready within 12 s\n {2}- two-0: no node takes it: 2 nodes with too little nvidia\.com\/gpu\. nearest: gpu-\d has \d of 8 GPUs free \(8 in all\)/,
    );
    expect(lines.join("\n")).toContain("too little nvidia.com/gpu");
    await remove("two");
    for (const name of ["other-gpu-0", "other-gpu-1"])
      await cluster.client.core.deleteNamespacedPod({ namespace: "default", name, gracePeriodSeconds: 0 });
  });

  it("rolls out another tensor parallel size, one pod after the other", async () => {
    const manifests = await stackIn(cluster, "one", { ...BIG, gpus: 2, tensorParallel: 2 });
    const set = manifests.objects.find(({ kind }) => kind === "StatefulSet")!;
    const { apps } = cluster.client;
    const old = await apps.readNamespacedStatefulSet({ namespace: "one", name: "one" });
    const body = { ...(JSON.parse(JSON.stringify(old)) as object), spec: set["spec"] } as never;
    await apps.replaceNamespacedStatefulSet({ namespace: "one", name: "one", body });
    await wait("one", 60);
    const [pod] = (await cluster.client.core.listNamespacedPod({ namespace: "one" })).items;
    expect(pod?.spec?.containers[0]?.resources?.limits).toEqual({ "nvidia.com/gpu": "2" });
    expect(pod?.spec?.containers[0]?.args?.join(" ")).toContain("--tensor-parallel-size 2");
  });

  it("is asked for what is left, and knows Tandem's namespaces by their marks", async () => {
    const { own, damaged } = await ownNamespaces(cluster.client, new Date());
    expect(own).toMatchObject([{ name: "one", stack: "one", isExpired: false }]);
    expect(damaged).toEqual([]);
    const hold = {
      target: { kubeconfig: cluster.kubeconfig },
      namespace: "one",
      name: "one",
      ownsNamespace: true,
      keepsVolumes: true,
    };
    await expect(proveGone(hold, () => undefined, 1)).rejects.toThrow(/namespace one/);
    await expect(proveGone({ ...hold, ownsNamespace: false }, () => undefined, 1)).rejects.toThrow(
      /pod one-0.*statefulset one.*service one/,
    );
    await remove("one");
    await proveGone(hold, () => undefined, 5);
  });

  it("gives both containers of a pod the same GPUs by a claim, really scheduled", async () => {
    await cluster.create({ ...(kwokNode("dra-0", 0) as { metadata: object }) });
    for (const object of draObjects("dra-0", 4)) await cluster.create(object);
    await deploy("claims", { ...TRAINS, gpuType: "h100-80gb" });
    await wait("claims", 60);
    const [pod] = (await cluster.client.core.listNamespacedPod({ namespace: "claims" })).items;
    expect(pod?.spec?.nodeName).toBe("dra-0");
    const claims = (await cluster.client.custom.listNamespacedCustomObject({
      group: "resource.k8s.io",
      version: "v1",
      namespace: "claims",
      plural: "resourceclaims",
    })) as { items: { status?: { allocation?: { devices?: { results?: { device: string }[] } } } }[] };
    expect(claims.items).toHaveLength(1);
    expect(claims.items[0]!.status?.allocation?.devices?.results?.map(({ device }) => device).toSorted()).toEqual([
      "gpu-0",
      "gpu-1",
      "gpu-2",
      "gpu-3",
    ]);
    const users = pod?.spec?.containers.filter(({ resources }) =>
      resources?.claims?.some(({ name }) => name === "gpus"),
    );
    expect(users?.map(({ name }) => name)).toEqual(["serving", "training"]);
    await remove("claims");
  });
});
