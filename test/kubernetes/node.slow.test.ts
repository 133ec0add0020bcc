import { afterAll, beforeAll, expect, it } from "vitest";
import { expectConforms } from "../conformance/conforms";
import { describeOnHosts } from "../fixtures/hosts/hosts";
import { builtPrograms, canRunCluster } from "../fixtures/kubernetes/cluster";
import { type RealCluster, startRealCluster } from "../fixtures/kubernetes/node";
import { NODE_IMAGE } from "../fixtures/kubernetes/node-image";
import { type Changeable, NodeStack } from "../fixtures/kubernetes/node-stack";
import { withProvider } from "../fixtures/kubernetes/stack-on-kwok";
import { Deployment } from "../hosts/deployment";

const canRun = canRunCluster();
/** Answers 404 to everything, as a registry does that lacks an image. */
const EMPTY_REGISTRY = "localhost:5000";

describeOnHosts("a real node", { skip: !canRun, timeout: 120_000 }, () => {
  const deployment = new Deployment("command");
  let real: RealCluster;
  let one: NodeStack;

  // Takes long the first time; what follows must not.
  beforeAll(async () => {
    if (canRun) await builtPrograms();
  }, 1_800_000);
  beforeAll(async () => {
    if (!canRun) return;
    real = await startRealCluster();
    await real.node.exec(`systemd-run --quiet python3 -m http.server ${EMPTY_REGISTRY.split(":")[1]} -d /opt`);
  }, 400_000);
  afterAll(async () => {
    await real?.close();
    deployment.remove();
  });

  async function serving({ name }: NodeStack) {
    const { items } = await real.cluster.client.core.listNamespacedPod({ namespace: name });
    return items[0]?.status?.containerStatuses?.find((status) => status.name === "serving");
  }

  /** Asks the gateway from the node, by the pod's address. @returns the HTTP status */
  async function ask(stack: NodeStack, route: string, more: string): Promise<string> {
    const { status } = await stack.pod();
    const url = `http://${status?.podIP}:${stack.plan.port}${route}`;
    return (await real.node.tryExec(`curl -s -o /dev/null -w '%{http_code}' --max-time 60 ${more} ${url}`, 70)).stdout;
  }

  it("brings the pair up when its probes say so, and proves it from within", async () => {
    one = await NodeStack.deploy(real, "one");
    const { results, lines } = await one.prove(60);
    expect(lines).toContain("0 of 1 pods ready: one-0 is at serving");
    expect(results).toHaveLength(1);
    expect(results[0]!.checks.filter(({ status }) => status === "fail")).toEqual([]);
    expect(results[0]!.proof).toMatchObject({ models: [one.plan.model], maxModelLen: one.plan.maxModelLen });
    expect(await ask(one, "/v1/models", "")).toBe("401");
    expect(await ask(one, "/v1/models", `-H 'Authorization: Bearer ${one.key}'`)).toBe("200");
  });

  it("starts an engine again that says that it is healthy and makes no token", async () => {
    const { metadata } = await one.pod();
    const hang = `/var/lib/kubelet/pods/${metadata?.uid}/volumes/kubernetes.io~empty-dir/tmp/fake-vllm-hang`;
    await real.node.exec(`touch ${hang}`);
    const body = `-H 'Authorization: Bearer ${one.key}' -H 'Content-Type: application/json' -d '{"model":"${one.plan.model}","prompt":"1"}'`;
    const waiting = ask(one, "/v1/completions", body);
    await expect.poll(async () => (await serving(one))?.restartCount, { timeout: 60_000, interval: 500 }).toBe(1);
    await real.node.exec(`rm ${hang}`);
    expect(await waiting).not.toBe("200");
    const said = (await one.events()).map(({ message }) => message);
    expect(said).toContain("Container serving failed liveness probe, will be restarted");
    expect(said).toContainEqual(
      expect.stringMatching(/Liveness probe failed: \d requests and no token for \d+ s: the engine hangs/),
    );
    await one.wait(60);
    expect((await serving(one))?.ready).toBe(true);
  });

  it.concurrent(
    "serves what `tandem up` was told, finds nothing to change, and has nothing left after `destroy`",
    async () => {
      const { model, cluster } = real;
      const images = { serving: NODE_IMAGE, gateway: NODE_IMAGE };
      const kubernetes = { kubeconfig: cluster.kubeconfig, namespace: deployment.name, images };
      deployment.write({ target: "kubernetes", model, gpus: 0, kubernetes });
      await real.addVolume(deployment.name);
      const variables = await withProvider(deployment.folder);
      const { outputs } = await deployment.ask(["up"], 0, variables);
      expectConforms(outputs, { target: "kubernetes", model, tensorParallel: 1, hosts: 1 });
      expect((await deployment.ask(["preview"], 0, variables)).changes).toEqual([]);
      const destroyed = await deployment.tandem(["destroy", "--yes"], variables);
      expect(destroyed, destroyed.stderr).toMatchObject({ status: 0 });
      const { items } = await cluster.client.core.listNamespace();
      expect(items.map(({ metadata }) => metadata?.name)).not.toContain(deployment.name);
    },
  );

  it.concurrent("has a reason for each stack that does not come up, said while waiting", async () => {
    const failing: readonly (readonly [string, RegExp, (serving: Changeable) => void])[] = [
      [
        "no-image",
        /no-image-0: the image of serving can't be pulled \(localhost:5000\/vllm:none\): the registry has no such image/,
        (container) => (container.image = `${EMPTY_REGISTRY}/vllm:none`),
      ],
      [
        "memory",
        /memory-0: serving was killed because it took more memory than its limit of 128Mi/,
        ({ resources, env }) => {
          Object.assign(resources, { limits: { memory: "128Mi" } });
          env.push({ name: "FAKE_VLLM_MEMORY_MIB", value: "512" });
        },
      ],
      [
        "crash",
        /crash-0: serving ended with 1.*ValueError: no such attention/,
        ({ env }) => env.push({ name: "FAKE_VLLM_FAIL", value: "ValueError: no such attention" }),
      ],
      [
        "slow",
        /slow-0: serving did not answer within its start-up budget and was started again/,
        ({ env, startupProbe }) => {
          env.push({ name: "FAKE_VLLM_START_SECONDS", value: "100" });
          startupProbe!.failureThreshold = 3;
        },
      ],
      [
        "too-big",
        /too-big-0: no node takes it: 1 node with too little memory\. nearest: node has [\d.]+ of 900(\.\d)? GiB of memory free/,
        ({ resources }) => Object.assign(resources, { requests: { memory: "900Gi" }, limits: { memory: "900Gi" } }),
      ],
    ];
    await Promise.all(
      failing.map(async ([name, words, change]) => {
        const stack = await NodeStack.deploy(real, name, change);
        await expect(stack.wait(name === "too-big" ? 10 : 80), name).rejects.toThrow(words);
      }),
    );
  });

  it("has nothing left of a stack that is destroyed", async () => {
    const { metadata } = await one.pod();
    await one.destroy(60);
    const left = `ls -d /var/lib/kubelet/pods/${metadata?.uid} 2>/dev/null; ctr -n k8s.io containers ls | grep ${metadata?.uid}; mount | grep ${metadata?.uid}`;
    await expect.poll(async () => (await real.node.tryExec(left)).stdout, { timeout: 20_000 }).toBe("");
  });

  it("is missed when it is gone", async () => {
    const two = await NodeStack.deploy(real, "two");
    await two.wait(60);
    await real.node.crash();
    const ready = async () => (await two.pod()).status?.conditions?.find(({ type }) => type === "Ready")?.status;
    await expect.poll(ready, { timeout: 60_000, interval: 1000 }).toBe("False");
    await expect(two.wait(1)).rejects.toThrow("two-0: its node node does not answer any more");
  });
});
