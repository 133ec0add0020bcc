import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { Outputs } from "../../stacks/outputs";
import { expectConforms } from "../conformance/conforms";
import { readClusterFacts } from "../../bootstrap/kubernetes/facts";
import { canRunCluster, kwokNode, startCluster, type TestCluster } from "../fixtures/kubernetes/cluster";
import { configureKwok, withProvider } from "../fixtures/kubernetes/stack-on-kwok";
import { Deployment } from "../hosts/deployment";
import { STORAGE_CLASS, volume } from "./stack-in-cluster";

/**
 * The command, the real engine, Pulumi's own Kubernetes provider and a real control plane; nodes and what runs in pods is played.
 * node.slow.test.ts has a real node.
 */
const canRun = canRunCluster();
const NAMESPACE = "llm";
const MODEL = "meta-llama/Llama-3.1-8B";

describe.skipIf(!canRun)("`tandem` on a real control plane", () => {
  const deployment = new Deployment("clustered");
  let cluster: TestCluster;
  let folder: string;
  let variables: Record<string, string>;

  const configure = (tensorParallel: number, kubernetes: object = {}) =>
    deployment.write({
      target: "kubernetes",
      model: MODEL,
      gpus: 4,
      tensorParallel,
      kubernetes: { kubeconfig: cluster.kubeconfig, namespace: NAMESPACE, ...kubernetes },
    });

  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "tandem-up-cluster-"));
    // The kubeconfig's place is known only when there is a cluster, KWOK's configuration before.
    const kubeconfig = path.join(folder, "cluster/kubeconfig");
    const kwokConfig = configureKwok(path.join(folder, "kwok"), kubeconfig, NAMESPACE);
    [cluster, variables] = await Promise.all([
      startCluster({ kwok: true, kwokConfig, folder: path.dirname(kubeconfig) }),
      withProvider(folder),
    ]);
    // The hub is not asked here: it counts as not reached, and the model's shape is known.
    variables["HF_ENDPOINT"] = "http://127.0.0.1:9";
    await cluster.create(STORAGE_CLASS);
    await cluster.create(kwokNode("gpu-0", 8));
    await vi.waitFor(
      async () => expect((await readClusterFacts(cluster.client, NAMESPACE)).nodes[0]?.isReady).toBe(true),
      { timeout: 20_000 },
    );
    await addVolume("volume-0");
    configure(4);
  });
  afterAll(async () => {
    await cluster?.close();
    deployment.remove();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  /** One that the cluster deletes when its claim is gone. */
  async function addVolume(name: string): Promise<void> {
    const disk = path.join(folder, name);
    mkdirSync(disk);
    await cluster.create(volume(name, { path: disk, afterwards: "Delete" }));
  }
  const pods = async () => (await cluster.client.core.listNamespacedPod({ namespace: NAMESPACE })).items;
  const namespaces = async () =>
    (await cluster.client.core.listNamespace()).items.map(({ metadata }) => metadata?.name ?? "").toSorted();

  it("shows what it would make and makes nothing", async () => {
    const before = await namespaces();
    const { changes } = await deployment.ask(["preview"], 0, variables);
    expect(changes.map(({ action }) => action)).toEqual(changes.map(() => "create"));
    expect(changes.map(({ step }) => step)).toEqual(
      expect.arrayContaining(["cluster", "keys", "statefulset", "proof"]),
    );
    expect(await namespaces()).toEqual(before);
  });

  it("says while it waits what keeps the pod, and goes on when that is over", async () => {
    const limits = { "nvidia.com/gpu": "5" };
    await cluster.create({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "other", namespace: "default" },
      spec: { nodeName: "gpu-0", containers: [{ name: "x", image: "x", resources: { limits } }] },
    });
    const startedAt = Date.now();
    const run = deployment.start(["up", "--yes", "--json"], variables);
    const stdout = text(run.stdout!);
    let said = "";
    run.stderr!.on("data", (part: Buffer) => (said += part.toString()));
    const ended = new Promise<number | null>((resolve) => run.on("close", resolve));
    await Promise.race([
      ended,
      expect
        .poll(() => said, { timeout: 120_000, interval: 250 })
        .toMatch(/clustered-0: no node takes it: .*nearest: gpu-0 has 3 of 4 GPUs free \(8 in all\)/s),
    ]);
    await cluster.client.core.deleteNamespacedPod({ namespace: "default", name: "other", gracePeriodSeconds: 0 });
    expect(await ended, said).toBe(0);
    console.log(`up in a cluster: ${((Date.now() - startedAt) / 1000).toFixed(1)} s`);
    const { outputs } = JSON.parse(await stdout) as { outputs: Outputs };
    expectConforms(outputs, { target: "kubernetes", model: MODEL, tensorParallel: 4, hosts: 1 });
    expect(outputs).toMatchObject({
      plan: { tensorParallel: 4 },
      measured: { tensorParallel: 4 },
      endpoints: { connect: expect.stringContaining(`-n ${NAMESPACE} port-forward service/clustered`) },
    });
    const [pod] = await pods();
    expect(pod?.spec?.nodeName).toBe("gpu-0");
  });

  it("finds nothing to change the next time", async () => {
    const { changes, seconds } = await deployment.ask(["preview"], 0, variables);
    console.log(`preview in a cluster: ${seconds.toFixed(1)} s`);
    expect(changes).toEqual([]);
  });

  it("rolls out another tensor parallel size and proves it", async () => {
    configure(2);
    const { changes, outputs } = await deployment.ask(["up"], 0, variables);
    expect(changes).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ step: "statefulset", action: "update" }),
        expect.objectContaining({ step: "proof", action: "update" }),
      ]),
    );
    expect(changes.map(({ step }) => step)).not.toContain("keys");
    expect(outputs).toMatchObject({ plan: { tensorParallel: 2 }, measured: { tensorParallel: 2, replicas: 2 } });
    const [pod] = await pods();
    expect(pod?.spec?.containers[0]?.args?.join(" ")).toContain("--tensor-parallel-size 2");
  });

  it("measures now with status, and names kubectl's own command where a host would be asked", async () => {
    const status = await deployment.tandem(["status", "--json"], variables);
    expect(status, status.stderr).toMatchObject({ status: 0 });
    const { checks } = JSON.parse(status.stdout) as { checks: { name: string; status: string }[] };
    expect(checks).toContainEqual(expect.objectContaining({ name: "tensor parallel size", status: "pass" }));
    const logs = await deployment.tandem(["logs", "serving"], variables);
    expect(logs.status).not.toBe(0);
    expect(logs.stderr).toContain(`kubectl -n ${NAMESPACE} logs`);
  });

  it("makes the StatefulSet anew for a volume of another size", async () => {
    await addVolume("volume-1");
    configure(2, { cacheSizeGiB: 50 });
    const { changes, outputs } = await deployment.ask(["up"], 0, variables);
    expect(changes).toContainEqual(expect.objectContaining({ step: "statefulset", action: "replace" }));
    expect(outputs.measured.tensorParallel).toBe(2);
    const { items } = await cluster.client.core.listNamespacedPersistentVolumeClaim({ namespace: NAMESPACE });
    expect(items.map(({ spec, status }) => [spec?.resources?.requests?.["storage"], status?.phase])).toEqual([
      ["50Gi", "Bound"],
    ]);
  });

  it("takes everything away and proves it: namespace and volume are gone, all else is as it was", async () => {
    const run = await deployment.tandem(["destroy", "--yes"], variables);
    expect(run, run.stderr).toMatchObject({ status: 0 });
    expect(await namespaces()).toEqual(["default", "kube-node-lease", "kube-public", "kube-system"]);
    const { items } = await cluster.client.core.listPersistentVolume();
    expect(items).toEqual([]);
  });

  it("fails in words for what will not change by itself, and gives a namespace of the user's back as it was", async () => {
    const metadata = { name: "gpus", namespace: "full" };
    await cluster.create({ apiVersion: "v1", kind: "Namespace", metadata: { name: "full" } });
    const spec = { hard: { "requests.nvidia.com/gpu": "2" } };
    await cluster.create({ apiVersion: "v1", kind: "ResourceQuota", metadata, spec });
    configure(4, { namespace: "full", createNamespace: false });
    const run = await deployment.tandem(["up", "--yes"], variables);
    expect(run.status).toBe(1);
    expect(run.stderr).toContain("serving failed in namespace full: the pods do not come up");
    expect(run.stderr).toMatch(
      /quota gpus leaves no room: asked for requests\.nvidia\.com\/gpu=4, used requests\.nvidia\.com\/gpu=0, allowed requests\.nvidia\.com\/gpu=2/,
    );
    expect(await deployment.tandem(["destroy", "--yes"], variables)).toMatchObject({ status: 0 });
    const one = { namespace: "full" };
    const { core, apps } = cluster.client;
    const left = await Promise.all([
      apps.listNamespacedStatefulSet(one),
      core.listNamespacedService(one),
      core.listNamespacedSecret(one),
      core.listNamespacedPersistentVolumeClaim(one),
    ]);
    expect(left.flatMap(({ items }) => items.map(({ metadata: of }) => of?.name))).toEqual([]);
    expect(await namespaces()).toContain("full");
  });
});
