import { describe, expect, it } from "vitest";
import type { ClusterPrepared } from "../../bootstrap/kubernetes/prepare";
import type { Prepared, PreparedHost } from "../../bootstrap/runner/prepare";
import type { ProofResult } from "../../bootstrap/runner/proof";
import type { HostTarget } from "../../bootstrap/runner/request";
import { builtInShape, formatProblem, parseSettings, type Plan, type Settings, type SettingsInput } from "../../plan";
import { compareProof } from "../../plan/compare";
import type { HostFacts } from "../../plan/facts";
import { hypotheticalHost } from "../../plan/gpu-types";
import { settingsForCluster } from "../../plan/kubernetes-manifests";
import { makePlan } from "../../plan/make-plan";
import { buildOutputs } from "../../stacks/build-outputs";
import { podsAsHosts, reachCluster } from "../../stacks/cluster";
import type { Outputs } from "../../stacks/outputs";
import { cluster, gpuNode, planIn } from "../kubernetes/clusters";
import { goodProof } from "../plan/good-proof";
import { expectConforms, type Expected } from "./conforms";

/** The same machine everywhere: eight H100. Targets' slow tests pass the same assertions with what really came out. */
const MACHINE: HostFacts = hypotheticalHost({ gpus: 8, gpuType: "h100-80gb" });
const MODEL = "meta-llama/Llama-3.1-8B";
const ASKED: SettingsInput = { model: MODEL, gpus: 4, tensorParallel: 2 };
const TARGETS: Readonly<Record<Expected["target"], SettingsInput>> = {
  local: { target: "local" },
  ssh: { target: "ssh", ssh: { hosts: ["root@gpu1"] } },
  ec2: {
    target: "ec2",
    ec2: { region: "us-east-1", allowedCidr: "203.0.113.7/32" },
    maxPricePerHourUsd: 100,
    ttl: "4h",
  },
  kubernetes: { target: "kubernetes" },
};
const targets = Object.keys(TARGETS) as Expected["target"][];

function settingsOf(target: Expected["target"], more: SettingsInput = {}): Settings {
  const { settings, problems } = parseSettings({ ...ASKED, ...TARGETS[target], ...more });
  if (settings === undefined) throw new Error(problems.map(formatProblem).join("\n"));
  return settings;
}

/** What a service that runs as planned would tell. */
function proven(plan: Plan): ProofResult {
  const proof = goodProof(plan);
  return { proof, checks: compareProof(plan, proof), provenAt: "2026-11-25T10:00:00.000Z" };
}

const PARTS = {
  servedModelName: MODEL,
  apiKey: "key",
  apiKeys: { default: "key" },
  startedAt: "2026-11-25T09:00:00.000Z",
};

function hostOf(target: Exclude<Expected["target"], "kubernetes">): HostTarget {
  if (target === "local") return { kind: "local" };
  return { kind: "ssh", name: "gpu1", host: "gpu1", hostKeys: "known-hosts", sudo: "auto" };
}

/** A target's outputs, by its own way from the settings. */
function outputsOf(target: Expected["target"], more: SettingsInput = {}): { outputs: Outputs; plan: Plan } {
  if (target === "kubernetes") return outputsInCluster(more);
  const settings = settingsOf(target, more);
  const { plan } = makePlan({ settings, shape: builtInShape(MODEL)!, hosts: [MACHINE] });
  const host: PreparedHost["host"] = {
    name: target === "local" ? "local" : "gpu1",
    target: hostOf(target),
    stack: "demo",
    facts: MACHINE,
    checks: [],
    tokens: {} as PreparedHost["host"]["tokens"],
  };
  const prepared: Prepared = { settings, hosts: [{ host, plan: plan! }] };
  return { plan: plan!, outputs: buildOutputs({ ...PARTS, prepared, proven: [proven(plan!)] }) };
}

function outputsInCluster(more: SettingsInput): { outputs: Outputs; plan: Plan } {
  const planned = planIn(cluster([gpuNode("a")]), { ...ASKED, ...more });
  if (planned.plan === undefined) throw new Error(planned.problems.map(formatProblem).join("\n"));
  const { plan } = planned;
  const settings = settingsForCluster(planned.settings);
  const one = { ...planned, name: "demo", target: {}, context: "lab" } as unknown as ClusterPrepared;
  const outputs = buildOutputs({
    ...PARTS,
    prepared: { settings, hosts: podsAsHosts(settings, one) },
    proven: [proven(plan)],
    cluster: { reach: reachCluster(settings, one), address: "demo.tandem.svc" },
  });
  return { plan, outputs };
}

describe.each(targets)("target %s", (target) => {
  it("has the outputs that every target has", () => {
    const { outputs } = outputsOf(target);
    expectConforms(outputs, { target, model: MODEL, tensorParallel: 2, hosts: 1 });
  });

  it("plans what every target plans for the same machine", () => {
    const { plan } = outputsOf(target);
    const { plan: there } = outputsOf("local");
    const same = ({
      model,
      gpuIndices,
      tensorParallel,
      replicas,
      split,
      kvCacheTokens,
      maxModelLen,
      perGpu,
    }: Plan) => ({
      ...{ model, gpuIndices, tensorParallel, replicas, split, kvCacheTokens, maxModelLen, perGpu },
    });
    expect(same(plan)).toEqual(same(there));
  });

  it("trains at the address that every target names", () => {
    const training = { training: { backend: "megatron-bridge" } } as const;
    const { outputs } = outputsOf(target, training);
    expectConforms(outputs, { target, model: MODEL, tensorParallel: 2, hosts: 1, trains: true });
    expect(outputs.endpoints.fineTuning).toBe(outputs.endpoints.baseUrl);
  });
});

it("is no matter of taste: an output that is missing or does not agree is found", () => {
  const expected = { target: "ssh", model: MODEL, tensorParallel: 2, hosts: 1 } as const;
  const { outputs } = outputsOf("ssh");
  const { models: _models, ...endpoints } = outputs.endpoints;
  for (const broken of [
    { ...outputs, endpoints },
    { ...outputs, apiKeys: {} },
    { ...outputs, measured: { ...outputs.measured, tensorParallel: 4 } },
    { ...outputs, hosts: [] },
    { ...outputs, more: 1 },
  ])
    expect(() => expectConforms(broken as Outputs, expected)).toThrow();
});
