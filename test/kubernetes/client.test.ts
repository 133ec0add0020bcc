import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { openCluster } from "../../bootstrap/kubernetes/client";
import { readClusterFacts } from "../../bootstrap/kubernetes/facts";
import { ownNamespaces } from "../../bootstrap/kubernetes/gone";
import { reapCluster } from "../../bootstrap/kubernetes/reap";
import { namespaceTags } from "../../plan/kubernetes-names";
import { nodeGpus } from "../../plan/kubernetes-nodes";
import { draObjects } from "./stack-in-cluster";
import { kwokNode } from "../fixtures/kubernetes/cluster";

let folder: string;
let server: Server;
/** Answers by path; what is not there is 404. */
let answers: Record<string, unknown>;
let status = 200;
let asked: string[];

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "tandem-client-"));
  answers = {};
  asked = [];
  status = 200;
  // Stands for an API server as far as lists of objects go; control-plane.slow.test.ts asks the same of a real one.
  server = createServer((request, response) => {
    const url = (request.url ?? "").split("?")[0]!;
    asked.push(`${request.method} ${url}`);
    const found = answers[url];
    const code = status !== 200 ? status : found === undefined ? 404 : 200;
    const failure = { kind: "Status", apiVersion: "v1", status: "Failure", message: `${url} is refused`, code };
    response
      .writeHead(code, { "content-type": "application/json" })
      .end(JSON.stringify(code === 200 ? found : failure));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

function kubeconfig(port = (server.address() as AddressInfo).port): string {
  const file = path.join(folder, "config");
  const document = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "lab", cluster: { server: `http://127.0.0.1:${port}`, "insecure-skip-tls-verify": true } }],
    users: [{ name: "me", user: { token: "t" } }],
    contexts: [{ name: "lab", context: { cluster: "lab", user: "me" } }],
    "current-context": "lab",
  };
  writeFileSync(file, JSON.stringify(document));
  return file;
}

const list = (kind: string, items: readonly object[]) => ({
  kind: `${kind}List`,
  apiVersion: "v1",
  metadata: {},
  items,
});

describe("a cluster that can't be asked", () => {
  const facts = async (file: string, context?: string) =>
    readClusterFacts(await openCluster({ kubeconfig: file, context }), "tandem");

  it("has a kubeconfig that is not there, or no such context", async () => {
    await expect(facts(path.join(folder, "nothing"))).rejects.toThrow(/kubernetes\.kubeconfig: it can't be read/);
    await expect(facts(kubeconfig(), "other")).rejects.toThrow(
      /kubernetes\.context: the kubeconfig has no such context — got other — allowed: lab/,
    );
  });

  it("has none, where the library would make one up", async () => {
    vi.stubEnv("KUBECONFIG", "");
    vi.stubEnv("HOME", folder);
    await expect(openCluster({ context: "lab" })).rejects.toThrow(/kubernetes\.kubeconfig: there is no kubeconfig/);
    vi.unstubAllEnvs();
  });

  it("does not listen", async () => {
    const file = kubeconfig();
    server.closeAllConnections();
    server.close();
    await expect(facts(file)).rejects.toThrow(
      /The cluster can't be asked:\n {2}- kubernetes\.context: .*ECONNREFUSED.* — got lab — fix: kubectl cluster-info/,
    );
  });

  it.each([
    [401, /does not know the user of this context/],
    [403, /may not do that: \/version\/? is refused/],
  ])("refuses with %i", async (code, words) => {
    status = code;
    await expect(facts(kubeconfig())).rejects.toThrow(words);
  });
});

describe("a cluster that answers", () => {
  it("tells nodes with what is used of them, classes, and devices to claim; what this user may not read counts as not there", async () => {
    const [deviceClass, slice] = draObjects("gpu-0", 2);
    const groups = ["resource.k8s.io/v1", "gateway.networking.k8s.io/v1", "nvidia.com/v1"];
    const pod = (name: string, phase: string) => ({
      metadata: { name, namespace: "a" },
      spec: {
        nodeName: "gpu-0",
        containers: [
          { name: "x", resources: { limits: { "nvidia.com/gpu": "3" }, requests: { memory: "2Gi", cpu: "500m" } } },
        ],
      },
      status: { phase },
    });
    const ready = (kwokNode("gpu-0", 8) as { status: object }).status;
    answers = {
      "/version": { major: "1", minor: "36", gitVersion: "v1.36.3" },
      "/apis": {
        kind: "APIGroupList",
        groups: groups.map((groupVersion) => ({
          name: groupVersion.split("/")[0],
          versions: [{ groupVersion, version: groupVersion.split("/")[1] }],
        })),
      },
      "/api/v1/nodes": list("Node", [
        { ...kwokNode("gpu-0", 8), status: { ...ready, conditions: [{ type: "Ready", status: "True" }] } },
      ]),
      "/api/v1/pods": list("Pod", [pod("one", "Running"), pod("done", "Succeeded")]),
      "/apis/storage.k8s.io/v1/storageclasses": list("StorageClass", [
        {
          metadata: { name: "gp3", annotations: { "storageclass.kubernetes.io/is-default-class": "true" } },
          provisioner: "x",
        },
      ]),
      "/apis/resource.k8s.io/v1/deviceclasses": list("DeviceClass", [deviceClass!]),
      "/apis/resource.k8s.io/v1/resourceslices": list("ResourceSlice", [slice!]),
      "/apis/nvidia.com/v1/clusterpolicies": list("ClusterPolicy", [
        {
          metadata: { labels: { "app.kubernetes.io/version": "v25.10.1" } },
          spec: { driver: { enabled: false } },
          status: { state: "ready" },
        },
      ]),
    };
    const facts = await readClusterFacts(await openCluster({ kubeconfig: kubeconfig() }), "tandem");
    expect(facts).toMatchObject({
      serverVersion: "v1.36.3",
      storageClasses: [{ name: "gp3", isDefault: true }],
      priorityClasses: [],
      hasHttpRoutes: true,
      hasServiceMonitors: false,
      gpuOperator: { policyState: "ready", version: "v25.10.1", managesDriver: false },
      dra: { apiVersion: "v1", deviceClasses: ["gpu.nvidia.com"] },
    });
    expect(facts.nodes[0]).toMatchObject({
      isReady: true,
      allocatable: { gpus: 8, memoryGiB: 1024 },
      requested: { gpus: 3, memoryGiB: 2, cpuCores: 0.5 },
    });
    expect(nodeGpus(facts.nodes[0]!, facts)).toMatchObject({
      count: 8,
      by: ["device-plugin", "dra"],
      driverVersion: "580.126.09",
    });
    expect(facts.dra?.slices[0]?.devices[1]).toMatchObject({ type: "gpu", memoryGiB: 81_559 / 1024 });
  });
});

describe("namespaces of expired runs", () => {
  const space = (name: string, hours: number | undefined, change: Record<string, string> = {}) => {
    const createdAt = new Date(Math.floor(Date.now() / 1000) * 1000 - 10 * 3_600_000);
    const expiresAt = hours === undefined ? undefined : new Date(createdAt.getTime() + hours * 3_600_000);
    const { labels, annotations } = namespaceTags({ runId: "run-1", stack: name, owner: "me", createdAt, expiresAt });
    return { metadata: { name, labels, annotations: { ...annotations, ...change }, creationTimestamp: createdAt } };
  };

  it("are found by their marks, and those with damaged ones are left alone", async () => {
    answers["/api/v1/namespaces"] = list("Namespace", [
      space("over", 1),
      space("live", 20),
      space("endless", undefined),
      space("damaged", 1, { "tandem.dev/expires-at": "soon" }),
      { metadata: { name: "foreign", labels: { "app.kubernetes.io/managed-by": "tandem" } } },
    ]);
    const { own, damaged } = await ownNamespaces(await openCluster({ kubeconfig: kubeconfig() }), new Date());
    expect(own.map(({ name, isExpired }) => [name, isExpired])).toEqual([
      ["over", true],
      ["live", false],
      ["endless", false],
    ]);
    expect(damaged).toEqual(["damaged: tag tandem:expires-at is soon"]);
    const lines: string[] = [];
    const reaped = await reapCluster({
      target: { kubeconfig: kubeconfig() },
      dryRun: true,
      olderThanSeconds: 0,
      onLine: (line) => lines.push(line),
    });
    expect(reaped).toMatchObject({
      removed: [],
      left: ["over"],
      live: 2,
      unclear: [expect.stringContaining("damaged")],
    });
    expect(lines[0]).toContain("would delete namespace over of stack over");
    expect(asked.filter((line) => !line.startsWith("GET"))).toEqual([]);
    // The namespace is gone in the answers, as it is after a real deletion.
    answers["/api/v1/namespaces/over"] = {};
    const older = await reapCluster({
      target: { kubeconfig: kubeconfig() },
      dryRun: false,
      olderThanSeconds: 20 * 3600,
      onLine: () => undefined,
    });
    expect(older).toMatchObject({ removed: [], left: [] });
  });
});
