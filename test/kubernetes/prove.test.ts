import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { proveCluster, type ClusterStepRequest } from "../../bootstrap/kubernetes/prove";
import type { Plan } from "../../plan/plan";

let folder: string;
let server: Server;
beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "tandem-prove-"));
  const sets = {
    items: [{ metadata: { name: "s" }, spec: { replicas: 1 }, status: { updatedReplicas: 1, readyReplicas: 1 } }],
  };
  // Stands for an API server whose pods are ready and that takes a connection into one of them without ever answering.
  server = createServer(({ url = "" }, response) => {
    const found = url.includes("/statefulsets") ? sets : url.endsWith("/pods/s-0") ? { metadata: {} } : { items: [] };
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(found));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
});
afterEach(() => {
  vi.useRealTimers();
  server.closeAllConnections();
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

it("ends in time also when the cluster never lets it into the pod", async () => {
  const kubeconfig = path.join(folder, "config");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const document = {
    clusters: [{ name: "lab", cluster: { server: url, "insecure-skip-tls-verify": true } }],
    users: [{ name: "me", user: {} }],
    contexts: [{ name: "lab", context: { cluster: "lab", user: "me" } }],
    "current-context": "lab",
  };
  writeFileSync(kubeconfig, JSON.stringify(document));
  const plan = { model: "m", servingPort: 1, port: 2, training: { backend: "off" } } as unknown as Plan;
  const stack: ClusterStepRequest = {
    target: { kubeconfig },
    namespace: "s",
    name: "s",
    pods: 1,
    plan,
    revision: "1",
    limitSeconds: 60,
    proves: true,
    apiKey: "k",
  };
  const asked = once(server, "upgrade") as Promise<[IncomingMessage, Duplex]>;
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const ended = expect(proveCluster(stack, () => undefined)).rejects.toThrow(
    "proof failed in pod s-0: no answer within 240 s",
  );
  const [, socket] = await asked;
  vi.advanceTimersByTime(240_000);
  await ended;
  socket.destroy();
});
