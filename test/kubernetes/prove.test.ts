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
/** How it answers each look at its StatefulSet; the last one goes for all that follow. */
let answers: ("waits" | "nothing" | "ready")[];
const SET = { metadata: { name: "s" }, spec: { replicas: 1 } };
beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "tandem-prove-"));
  answers = ["ready"];
  // Stands for an API server, which takes a connection into its pod without ever answering.
  server = createServer(({ url = "" }, response) => {
    let found: object = { items: [] };
    if (url.endsWith("/pods/s-0")) found = { metadata: {} };
    if (url.includes("/statefulsets")) {
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      if (answer === "nothing") return void response.destroy();
      const count = answer === "ready" ? 1 : 0;
      found = { items: [{ ...SET, status: { updatedReplicas: count, readyReplicas: count } }] };
    }
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

function request(more: Partial<ClusterStepRequest> = {}): ClusterStepRequest {
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
  return {
    target: { kubeconfig },
    namespace: "s",
    name: "s",
    pods: 1,
    plan,
    revision: "1",
    limitSeconds: 60,
    proves: true,
    apiKey: "k",
    ...more,
  };
}

it("goes through a moment in which the cluster does not answer, once it has", async () => {
  answers = ["waits", "nothing", "waits", "ready"];
  expect(await proveCluster(request({ proves: false }), () => undefined)).toEqual([]);
  expect(answers).toEqual(["ready"]);
  answers = ["nothing"];
  await expect(proveCluster(request({ proves: false }), () => undefined)).rejects.toThrow("The cluster can't be asked");
});

it("ends in time also when the cluster never lets it into the pod", async () => {
  const asked = once(server, "upgrade") as Promise<[IncomingMessage, Duplex]>;
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const ended = expect(proveCluster(request(), () => undefined)).rejects.toThrow(
    "proof failed in pod s-0: no answer within 240 s",
  );
  const [, socket] = await asked;
  vi.advanceTimersByTime(240_000);
  await ended;
  socket.destroy();
});
