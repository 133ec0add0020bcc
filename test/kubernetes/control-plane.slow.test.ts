import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readClusterFacts } from "../../bootstrap/kubernetes/facts";
import { ownNamespaces, proveGone } from "../../bootstrap/kubernetes/gone";
import { reapCluster } from "../../bootstrap/kubernetes/reap";
import { waitForPods } from "../../bootstrap/kubernetes/wait";
import type { SettingsInput } from "../../plan";
import { namespaceTags } from "../../plan/kubernetes-names";
import type { ClusterManifests } from "../../plan/kubernetes-manifests";
import { canRunCluster, kwokNode, startCluster, type TestCluster } from "../fixtures/kubernetes/cluster";
import { createDefinitions } from "../fixtures/kubernetes/definitions";
import { exampleManifests } from "./example-manifests";
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
  });

  it("takes what the settings add for operators that the cluster has, and every manifest of the examples", async () => {
    const { library, config } = cluster.client;
    const definitions = await createDefinitions(cluster);
    await expect
      .poll(
        async () => {
          const { items } = await config.makeApiClient(library.ApiextensionsV1Api).listCustomResourceDefinition();
          return items.filter(({ status }) =>
            status?.conditions?.some(({ type, status: is }) => type === "Established" && is === "True"),
          ).length;
        },
        { timeout: 30_000 },
      )
      .toBe(definitions.length);
    // Said a little after a definition is established.
    await expect
      .poll(() => readClusterFacts(cluster.client, "tandem"), { timeout: 30_000, interval: 500 })
      .toMatchObject({ hasHttpRoutes: true, hasServiceMonitors: true });
    const kubernetes = { expose: "gateway-api", gatewayName: "edge/public", host: "llm.example.com" } as const;
    const manifests = await stackIn(cluster, "tandem", {
      ...BIG,
      kubernetes: { ...kubernetes, allowNamespaces: ["edge"], serviceMonitor: true },
    });
    const [space, ...others] = manifests.objects;
    await cluster.create(space!);
    for (const object of others) await cluster.create(object, true);
    expect(others.map(({ kind }) => kind)).toEqual(expect.arrayContaining(["HTTPRoute", "ServiceMonitor"]));
    const examples = exampleManifests();
    expect(examples.map(({ kind }) => kind)).toEqual(
      expect.arrayContaining(["LeaderWorkerSet", "RayJob", "ScaledObject", "Job", "Deployment"]),
    );
    for (const object of examples) await cluster.create(object, true);
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
    // The stack itself takes nothing away from what it is planned on.
    const { nodes } = await readClusterFacts(cluster.client, "one", "one");
    expect(nodes.map(({ requested }) => requested.gpus)).toEqual([0, 0]);
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
    const isScheduled = async () => {
      const [pod] = (await cluster.client.core.listNamespacedPod({ namespace: "two" })).items;
      return pod?.status?.conditions?.find(({ type }) => type === "PodScheduled")?.status;
    };
    await expect.poll(isScheduled, { timeout: 60_000 }).toBe("False");
    const lines: string[] = [];
    const waiting = waitForPods(cluster.client, { namespace: "two", name: "two", limitSeconds: 6 }, (line) =>
      lines.push(line),
    );
    await expect(waiting).rejects.toThrow(
      /the pods are not ready within 6 s\n {2}- two-0: no node takes it: 2 nodes with too little nvidia\.com\/gpu\. nearest: gpu-\d has \d of 8 GPUs free \(8 in all\)/,
    );
    expect(lines.join("\n")).toContain("too little nvidia.com/gpu");
    await cluster.client.core.deleteNamespace({ name: "two" });
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
    expect(own).toContainEqual(expect.objectContaining({ name: "one", stack: "one", isExpired: false }));
    expect(own.map(({ name }) => name)).not.toContain("default");
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

  it("is rid of namespaces whose time is over by their marks alone, and of no others", async () => {
    const mark = { runId: "run-2", stack: "over", owner: "me@here", createdAt: new Date("2026-11-25T22:00:00Z") };
    const space = (name: string, expiresAt: string) => ({
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name, ...namespaceTags({ ...mark, expiresAt: new Date(expiresAt) }) },
    });
    await cluster.create(space("over", "2026-11-25T23:00:00Z"));
    await cluster.create(space("lives", "2099-01-01T00:00:00Z"));
    const target = { kubeconfig: cluster.kubeconfig };
    const reap = (dryRun: boolean) => reapCluster({ target, dryRun, olderThanSeconds: 0, onLine: () => undefined });
    expect(await reap(true)).toMatchObject({ removed: [], left: ["over"] });
    expect(await reap(false)).toMatchObject({ removed: ["over"], left: [], unclear: [] });
    const { items } = await cluster.client.core.listNamespace();
    const names = items.map(({ metadata }) => metadata?.name);
    expect(names).toContain("lives");
    expect(names).not.toContain("over");
  });

  it("gives both containers of a pod the same GPUs by a claim, really scheduled", async () => {
    // Either node of the pool would do, but for the claim.
    for (const name of ["dra-0", "dra-1"]) {
      const node = kwokNode(name, 0) as { metadata: { labels: object } };
      const labels = { ...node.metadata.labels, pool: "dra" };
      await cluster.create({ ...node, metadata: { ...node.metadata, labels } });
    }
    for (const object of draObjects("dra-1", 4)) await cluster.create(object);
    await expect
      .poll(async () => (await readClusterFacts(cluster.client, "claims")).nodes.filter(({ isReady }) => isReady), {
        timeout: 20_000,
      })
      .toHaveLength(4);
    await deploy("claims", { ...TRAINS, kubernetes: { nodeSelector: { pool: "dra" } } });
    await wait("claims", 60);
    const [pod] = (await cluster.client.core.listNamespacedPod({ namespace: "claims" })).items;
    expect(pod?.spec?.nodeName).toBe("dra-1");
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
  });
});
