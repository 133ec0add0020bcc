import { execFileSync } from "node:child_process";
import * as path from "node:path";
import { describe, expect, it } from "vitest";
import { gatewayKeys } from "../../plan/kubernetes-gateway";
import { namespaceTags, objectName, readNamespaceTags } from "../../plan/kubernetes-names";
import { launchServing } from "../../plan/launch";
import { H100S } from "../plan/hosts";
import {
  cluster,
  clusterSettings,
  containerIn,
  cpuNode,
  dra,
  gpuNode,
  manifestsIn,
  objectOf,
  planIn,
  podIn,
  statefulSetIn,
} from "./clusters";

const H100 = cluster([gpuNode("b")]);
const BIG = { model: "meta-llama/Llama-3.1-8B", gpus: 2, tensorParallel: 2 } as const;
const TRAINS = { ...BIG, training: { backend: "megatron-bridge" } } as const;

describe("the pod", () => {
  it("starts vLLM as the planner says, on loopback, and asks for whole GPUs of the planned kind", () => {
    const manifests = manifestsIn(H100, BIG);
    const { args = [], resources, command } = containerIn(manifests, "serving");
    const planned = planIn(H100, BIG);
    const own = launchServing(
      planned.plan!,
      { python: "python3", vllmVersion: "0.32.0", device: "cuda", flags: [] },
      {
        modelPath: "/cache/model",
        servedModelName: BIG.model,
        host: "127.0.0.1",
        port: 8002,
        extraArgs: [],
        extraEnv: {},
        facts: H100S(2),
      },
    );
    expect([...command, ...args]).toEqual(own.argv);
    expect(args.join(" ")).toContain("--tensor-parallel-size 2");
    expect(args.join(" ")).toContain("--host 127.0.0.1 --port 8002");
    expect(resources.limits).toEqual({ "nvidia.com/gpu": "2" });
    expect(podIn(manifests).nodeSelector["nvidia.com/gpu.product"]).toBe("NVIDIA-H100-80GB-HBM3");
  });

  it("has both containers on one claim with DRA, and no GPU by the device plugin", () => {
    const manifests = manifestsIn(cluster([gpuNode("b")], { dra: dra(["b"]) }), TRAINS);
    for (const name of ["serving", "training"]) {
      const { resources } = containerIn(manifests, name);
      expect(resources.claims).toEqual([{ name: "gpus" }]);
      expect(resources.limits?.["nvidia.com/gpu"]).toBeUndefined();
    }
    expect(podIn(manifests).resourceClaims).toEqual([{ name: "gpus", resourceClaimTemplateName: "demo-gpus" }]);
    const { apiVersion, spec } = objectOf(manifests, "ResourceClaimTemplate");
    expect(apiVersion).toBe("resource.k8s.io/v1");
    expect(spec).toMatchObject({
      spec: { devices: { requests: [{ name: "gpus", exactly: { deviceClassName: "gpu.nvidia.com", count: 2 } }] } },
    });
  });

  it("claims by product where no label tells it", () => {
    const node = cpuNode("b", { allocatable: { gpus: 0, cpuCores: 96, memoryGiB: 1024, diskGiB: 1 } });
    const manifests = manifestsIn(cluster([node], { dra: dra(["b"], 2) }), TRAINS);
    expect(JSON.stringify(objectOf(manifests, "ResourceClaimTemplate"))).toContain(
      String.raw`productName == \"NVIDIA H100 80GB HBM3\"`,
    );
    expect(podIn(manifests).nodeSelector).toEqual({ "kubernetes.io/os": "linux" });
  });

  it("writes claims as older API servers read them", () => {
    const old = { ...dra(["b"]), apiVersion: "v1beta1" as const };
    const { spec } = objectOf(manifestsIn(cluster([gpuNode("b")], { dra: old }), TRAINS), "ResourceClaimTemplate");
    expect(spec).toMatchObject({
      spec: { devices: { requests: [{ name: "gpus", deviceClassName: "gpu.nvidia.com" }] } },
    });
  });

  it("runs both in one container without DRA, each as planned, after an environment for vLLM was made", () => {
    const manifests = manifestsIn(H100, TRAINS);
    const { env = [], resources, image } = containerIn(manifests, "pair");
    const pair = JSON.parse(env.find(({ name }) => name === "TANDEM_PAIR")!.value!) as Record<
      string,
      { argv: string[] }
    >;
    expect(image).toBe("nvcr.io/nvidia/nemo:26.08");
    expect(resources.limits).toEqual({ "nvidia.com/gpu": "2" });
    expect(pair["serving"]!.argv[0]).toBe("/cache/vllm/bin/python");
    expect(pair["training"]!.argv.join(" ")).toContain(
      "-m tandem_trainer --state /cache/training --adapters /dev/shm/tandem-adapters",
    );
    expect(podIn(manifests).initContainers.map(({ name }) => name)).toEqual([
      "weights",
      "trainer-environment",
      "vllm-environment",
    ]);
  });

  it("leaves no placeholder of a host in any object", () => {
    for (const facts of [H100, cluster([gpuNode("b")], { dra: dra(["b"]) })]) {
      expect(JSON.stringify(manifestsIn(facts, TRAINS).objects)).not.toMatch(
        /\{(state|adapters|package|run|version)\}/,
      );
    }
  });

  it("asks for nothing that the restricted Pod Security standard refuses", () => {
    for (const raw of [BIG, TRAINS]) {
      const { containers, initContainers, securityContext } = podIn(manifestsIn(H100, raw));
      expect(securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
      for (const container of [...containers, ...initContainers]) {
        expect(container.securityContext).toMatchObject({
          allowPrivilegeEscalation: false,
          runAsNonRoot: true,
          capabilities: { drop: ["ALL"] },
        });
      }
    }
    expect(objectOf(manifestsIn(H100), "Namespace").metadata.labels).toMatchObject({
      "pod-security.kubernetes.io/enforce": "restricted",
    });
  });

  it("gives vLLM as long to start as the plan says, which grows with the weights", () => {
    const budget = (raw: Parameters<typeof manifestsIn>[1]) => {
      const { failureThreshold, periodSeconds } = containerIn(manifestsIn(H100, raw), "serving").startupProbe!;
      return failureThreshold * periodSeconds;
    };
    const large = { model: "meta-llama/Llama-3.1-70B", gpus: 8, split: 0.9 } as const;
    expect(budget(large)).toBeGreaterThan(budget(BIG));
    for (const raw of [BIG, large]) {
      expect(budget(raw)).toBeGreaterThanOrEqual(planIn(H100, raw).plan!.startup.timeoutSeconds);
    }
  });

  it("has shared memory enough for its workers, and a volume for twice the weights", () => {
    const manifests = manifestsIn(H100, BIG);
    expect(podIn(manifests).volumes).toContainEqual({
      name: "memory",
      emptyDir: { medium: "Memory", sizeLimit: "4Gi" },
    });
    const size = Number.parseInt(statefulSetIn(manifests).volumeClaimTemplates[0]!.spec.resources.requests.storage, 10);
    expect(size).toBeGreaterThan(2 * 15);
    expect(size).toBeLessThan(60);
    const chosen = manifestsIn(H100, { kubernetes: { cacheSizeGiB: 77, storageClass: "standard" } });
    expect(statefulSetIn(chosen).volumeClaimTemplates[0]!.spec).toMatchObject({
      storageClassName: "standard",
      resources: { requests: { storage: "77Gi" } },
    });
  });

  it("follows what places it: selector, tolerations, priority, runtime, secrets for images", () => {
    const facts = cluster([gpuNode("b", { labels: { ...gpuNode("b").labels, pool: "llm" } })], {
      runtimeClasses: ["nvidia"],
    });
    const pod = podIn(
      manifestsIn(facts, {
        kubernetes: {
          nodeSelector: { pool: "llm" },
          tolerations: [{ key: "dedicated", operator: "Exists" }],
          priorityClass: "system-cluster-critical",
          runtimeClass: "nvidia",
          images: { serving: "registry.example.com/vllm@sha256:00", pullSecrets: ["registry"] },
        },
      }),
    );
    expect(pod).toMatchObject({
      nodeSelector: { pool: "llm" },
      priorityClassName: "system-cluster-critical",
      runtimeClassName: "nvidia",
      imagePullSecrets: [{ name: "registry" }],
    });
    expect(pod.tolerations.map(({ key }) => key)).toEqual(["nvidia.com/gpu", "dedicated"]);
    expect(pod.containers[0]!.image).toBe("registry.example.com/vllm@sha256:00");
  });

  it("serves on the CPU within the memory that was planned", () => {
    const images = { serving: "registry.example.com/vllm-cpu:1" };
    const manifests = manifestsIn(cluster([cpuNode("a")]), { gpus: 0, kubernetes: { images } });
    const { resources, env = [] } = containerIn(manifests, "serving");
    expect(resources.limits?.["nvidia.com/gpu"]).toBeUndefined();
    expect(resources.limits?.["memory"]).toBe(resources.requests?.["memory"]);
    // A pod gets any cores of its node.
    expect(env.map(({ name }) => name)).not.toContain("VLLM_CPU_OMP_THREADS_BIND");
  });

  it("is started anew when a file that it reads at its start changes, and stays when nothing does", () => {
    const hash = (raw: Parameters<typeof manifestsIn>[1]) =>
      statefulSetIn(manifestsIn(H100, raw)).template.metadata.annotations["tandem.dev/content-hash"];
    expect(hash(BIG)).toBe(hash(BIG));
    expect(hash({ ...BIG, gateway: { limits: { bodyMiB: 64 } } })).not.toBe(hash(BIG));
  });

  it("holds no secret: keys are referred to", () => {
    const text = JSON.stringify(manifestsIn(H100, { ...BIG, hubToken: "hf_verysecret" }).objects);
    expect(text).not.toContain("hf_verysecret");
    expect(text).toContain('"secretKeyRef":{"name":"demo-keys","key":"upstreamKey"}');
  });
});

describe("the network", () => {
  it("is closed but for the gateway's port, from the stack's namespace and those that are named", () => {
    const { spec } = objectOf(manifestsIn(H100, { kubernetes: { allowNamespaces: ["monitoring"] } }), "NetworkPolicy");
    expect(spec).toMatchObject({
      policyTypes: ["Ingress", "Egress"],
      ingress: [
        {
          from: [
            { podSelector: {} },
            { namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "monitoring" } } },
          ],
          ports: [{ protocol: "TCP", port: 8000 }],
        },
      ],
    });
  });

  it("has a Service for clients and one that names the pods", () => {
    const manifests = manifestsIn(H100);
    expect(objectOf(manifests, "Service", "demo")["spec"]).toMatchObject({
      type: "ClusterIP",
      ports: [{ port: 8000 }],
    });
    expect(objectOf(manifests, "Service", "demo-pods")["spec"]).toMatchObject({
      clusterIP: "None",
      publishNotReadyAddresses: true,
    });
  });

  it("is opened by an Ingress, a route of the Gateway API, or neither", () => {
    const kinds = (facts: typeof H100, kubernetes: object) =>
      manifestsIn(facts, { kubernetes }).objects.map(({ kind }) => kind);
    const open = { host: "llm.example.com", allowNamespaces: ["edge"] };
    expect(kinds(H100, {})).not.toContain("Ingress");
    const controller = cluster([gpuNode("b")], { ingressClasses: [{ name: "nginx", isDefault: true }] });
    expect(kinds(controller, { ...open, expose: "ingress" })).toContain("Ingress");
    const routed = cluster([gpuNode("b")], { hasHttpRoutes: true });
    const route = manifestsIn(routed, { kubernetes: { ...open, expose: "gateway-api", gatewayName: "edge/public" } });
    expect(objectOf(route, "HTTPRoute")["spec"]).toMatchObject({
      parentRefs: [{ namespace: "edge", name: "public" }],
      hostnames: ["llm.example.com"],
    });
  });

  it("lets the Prometheus Operator read one Service, with the key", () => {
    const facts = cluster([gpuNode("b")], { hasServiceMonitors: true });
    const manifests = manifestsIn(facts, { kubernetes: { serviceMonitor: true } });
    const { spec } = objectOf(manifests, "ServiceMonitor") as unknown as {
      spec: { selector: { matchLabels: Record<string, string> } };
    };
    const chosen = manifests.objects.filter(
      ({ kind, metadata }) =>
        kind === "Service" &&
        Object.entries(spec.selector.matchLabels).every(([name, value]) => metadata.labels?.[name] === value),
    );
    expect(chosen.map(({ metadata }) => metadata.name)).toEqual(["demo"]);
  });

  it("has the same gateway as on a host, in the folders of a pod", () => {
    const text = (objectOf(manifestsIn(H100, TRAINS), "ConfigMap", "demo-gateway")["data"] as Record<string, string>)[
      "nginx.conf"
    ]!;
    expect(text).toContain("listen 0.0.0.0:8000");
    expect(text).toContain("include /etc/tandem-keys/keys.conf;");
    expect(text).toContain("server 127.0.0.1:8002");
    expect(text).toContain("server 127.0.0.1:8001");
    expect(text).not.toContain("unix:/run/tandem-gateway/monitor.sock");
  });

  it("writes nginx's keys as the host's own script does", () => {
    const keys = { alice: "a".repeat(43), default: "b".repeat(43) };
    const upstream = "c".repeat(43);
    const scripts = path.resolve(__dirname, "../../bootstrap/host");
    const program =
      "import json,sys; from gateway_files import keys_conf; k,u=json.loads(sys.argv[1]); sys.stdout.write(keys_conf(k,u))";
    const own = execFileSync("python3", ["-c", program, JSON.stringify([keys, upstream])], {
      cwd: scripts,
      encoding: "utf8",
    });
    expect(gatewayKeys(keys, upstream)).toBe(own);
    expect(() => gatewayKeys({ default: ".*" }, upstream)).toThrow(RangeError);
  });
});

describe("names, tags and what is left", () => {
  it.each([
    ["Dev_1.x", "dev-1-x"],
    ["1st", "tandem-1st"],
    ["--", "tandem"],
    ["a".repeat(60), "a".repeat(40)],
  ])("calls the objects of stack %s %s", (stack, name) => {
    expect(objectName(stack)).toBe(name);
  });

  it("marks the namespace with run and expiry, in what labels and annotations may hold", () => {
    const mark = {
      runId: "run-1",
      stack: "demo",
      owner: "me@here",
      createdAt: new Date("2026-11-25T22:00:00Z"),
      expiresAt: new Date("2026-11-26T02:00:00Z"),
    };
    const { labels, annotations } = namespaceTags(mark);
    for (const value of Object.values(labels)) expect(value).toMatch(/^[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?$/);
    expect(annotations["tandem.dev/expires-at"]).toBe("2026-11-26T02:00:00Z");
    expect(readNamespaceTags(annotations)).toEqual({ kind: "ours", mark });
    expect(readNamespaceTags({})).toEqual({ kind: "foreign" });
    expect(readNamespaceTags({ ...annotations, "tandem.dev/expires-at": "soon" })).toMatchObject({ kind: "damaged" });
  });

  it("deletes volumes with the stack unless the cache is to stay", () => {
    const policy = (raw: object) =>
      statefulSetIn(manifestsIn(H100, raw)).persistentVolumeClaimRetentionPolicy.whenDeleted;
    expect(policy({})).toBe("Delete");
    expect(policy({ cache: "keep" })).toBe("Retain");
  });

  it("makes no namespace that is the user's own", () => {
    const facts = cluster([gpuNode("b")], { namespace: { labels: {}, annotations: {} } });
    const kinds = manifestsIn(facts, { kubernetes: { createNamespace: false } }).objects.map(({ kind }) => kind);
    expect(kinds).not.toContain("Namespace");
  });

  it("puts every object into the namespace, under the stack's labels", () => {
    for (const { kind, metadata } of manifestsIn(H100, TRAINS).objects) {
      if (kind === "Namespace") continue;
      expect(metadata).toMatchObject({
        namespace: clusterSettings().kubernetes.namespace,
        labels: { "app.kubernetes.io/instance": "demo" },
      });
    }
  });
});
