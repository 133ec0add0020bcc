import * as pulumi from "@pulumi/pulumi";
import { beforeAll, describe, expect, it } from "vitest";
import { podFiles, readyLimitSeconds, type ClusterPrepared } from "../../bootstrap/kubernetes/prepare";
import type { ProofResult } from "../../bootstrap/runner/proof";
import type { SettingsInput } from "../../plan";
import { kubernetesManifests } from "../../plan/kubernetes-manifests";
import { outputsSchema, type Outputs } from "../../stacks/outputs";
import { clusterOutputs } from "../../stacks/cluster";
import { cluster, dra, gpuNode, planIn } from "./clusters";

interface Recorded {
  readonly type: string;
  readonly inputs: Record<string, unknown>;
}
const recorded = new Map<string, Recorded>();
const KEY = `tdm-${"c".repeat(43)}`;
const PROOF: ProofResult = {
  proof: {
    generated: { text: "Paris", tokens: 2, seconds: 1 },
    models: [],
    workers: [],
    gpus: [{ index: 0, servingGiB: 31, totalGiB: 79.65, freeGiB: 40 }],
    replicas: 1,
    tensorParallel: 2,
  },
  checks: [{ name: "generates", status: "pass", detail: "" }],
  provenAt: "2026-11-25T10:00:00.000Z",
};

function prepared(raw: SettingsInput) {
  const facts = cluster([gpuNode("b")], { dra: dra(["b"]) });
  const planned = planIn(facts, raw);
  if (planned.plan === undefined) throw new Error(JSON.stringify(planned.problems));
  const { plan, chosen, sharing, settings } = planned;
  const request = { name: "demo", settings, plan, facts, chosen, sharing };
  const one: ClusterPrepared = {
    ...request,
    target: { kubeconfig: "/home/me/.kube/config", context: "lab" },
    context: "lab",
    installsOperator: false,
    manifests: kubernetesManifests({ ...request, files: podFiles() }),
  };
  return { settings, cluster: one };
}

async function outputsOf(raw: SettingsInput): Promise<Outputs> {
  recorded.clear();
  const outputs = clusterOutputs(prepared(raw));
  return new Promise((resolve) => outputs.apply(resolve));
}

const TRAINS: SettingsInput = {
  model: "meta-llama/Llama-3.1-8B",
  gpus: 2,
  tensorParallel: 2,
  hubToken: "hf_canary_token",
  training: { backend: "megatron-bridge" },
};

beforeAll(async () => {
  await pulumi.runtime.setMocks(
    {
      newResource: ({ name, type, inputs }) => {
        recorded.set(name, { type, inputs });
        const stdout = name.endsWith("-key")
          ? KEY
          : JSON.stringify(name.endsWith("-proof") ? [PROOF] : { createdAt: "2026-11-25T09:00:00.000Z" });
        return { id: `${name}-id`, state: { ...inputs, stdout, stderr: "" } };
      },
      call: () => ({}),
    },
    "tandem",
    "stack",
  );
});

function open(value: unknown): string {
  return typeof value === "object" && value !== null && "value" in value ? String(value.value) : String(value);
}

describe("a stack in a cluster", () => {
  it("has the outputs that every target has", async () => {
    const outputs = await outputsOf(TRAINS);
    expect(outputsSchema.parse(outputs)).toEqual(outputs);
    expect(outputs).toMatchObject({
      apiKey: KEY,
      health: { status: "healthy" },
      plan: { tensorParallel: 2, gpus: [0, 1] },
      endpoints: {
        chat: "http://127.0.0.1:8000/v1/chat/completions",
        fineTuning: "http://127.0.0.1:8000/v1",
        connect:
          "kubectl --kubeconfig /home/me/.kube/config --context lab -n tandem port-forward service/demo 8000:8000",
      },
      hosts: [{ name: "demo-0", address: "demo.tandem.svc", target: "kubernetes", driver: "580.126.09" }],
    });
  });

  it("is reached by its name where it is exposed", async () => {
    const raw: SettingsInput = { gpus: 1, kubernetes: { expose: "clusterIP" } };
    const one = prepared(raw);
    const settings = {
      ...one.settings,
      kubernetes: { ...one.settings.kubernetes, expose: "ingress" as const, host: "llm.example.com", tlsSecret: "llm" },
    };
    const outputs = clusterOutputs({ ...one, settings });
    const { endpoints } = await new Promise<Outputs>((resolve) => outputs.apply(resolve));
    expect(endpoints).toMatchObject({ baseUrl: "https://llm.example.com/v1" });
    expect(endpoints.connect).toBeUndefined();
  });

  it("is made of the manifests' kinds, and a Secret that alone holds keys and token", async () => {
    await outputsOf(TRAINS);
    const types = [...recorded.values()].map(({ type }) => type);
    for (const type of [
      "kubernetes:core/v1:Namespace",
      "kubernetes:core/v1:Secret",
      "kubernetes:networking.k8s.io/v1:NetworkPolicy",
      "kubernetes:policy/v1:PodDisruptionBudget",
      "kubernetes:apps/v1:StatefulSet",
      "kubernetes:resource.k8s.io/v1:ResourceClaimTemplate",
    ]) {
      expect(types).toContain(type);
    }
    expect(types.filter((type) => type === "kubernetes:core/v1:Service")).toHaveLength(2);
    for (const [name, { type, inputs }] of recorded) {
      if (type.endsWith(":Secret") || name.endsWith("-proof")) continue;
      expect(JSON.stringify(inputs)).not.toMatch(/hf_canary_token|tdm-c/);
    }
  });

  it("hands the key to the proof on standard input, as a secret, and proves no kubeconfig's contents into the state", async () => {
    await outputsOf(TRAINS);
    const { inputs } = recorded.get("stack-proof")!;
    expect(JSON.stringify([inputs["create"], inputs["environment"]])).not.toContain(KEY);
    expect(JSON.parse(open(inputs["stdin"]))).toMatchObject({
      apiKey: KEY,
      pods: 1,
      proves: true,
      target: { context: "lab" },
    });
    expect(recorded.get("stack-kubernetes")!.inputs).toMatchObject({
      kubeconfig: "/home/me/.kube/config",
      context: "lab",
    });
  });
});

it("waits longer for larger weights, and for a trainer", () => {
  const limit = (raw: SettingsInput) => readyLimitSeconds(prepared(raw).cluster.plan);
  const small = limit({ gpus: 1 });
  expect(limit({ model: "meta-llama/Llama-3.1-70B", gpus: 8, split: 0.9 })).toBeGreaterThan(small);
  expect(limit(TRAINS)).toBeGreaterThan(small);
});

it("fits all files into ConfigMaps, which hold a MiB at most", () => {
  for (const files of Object.values(podFiles())) {
    expect(JSON.stringify(files).length).toBeLessThan(1024 * 1024);
    expect(Object.keys(files).length).toBeGreaterThan(5);
    for (const name of Object.keys(files)) expect(name).toMatch(/^[-._a-zA-Z0-9]+$/);
  }
});
