import { describe, expect, it } from "vitest";
import type { PreparedHost } from "../../bootstrap/runner/prepare";
import type { ProofResult } from "../../bootstrap/runner/proof";
import type { SshTarget } from "../../bootstrap/runner/request";
import { builtInShape } from "../../plan/built-in-shapes";
import { hypotheticalHost } from "../../plan/gpu-types";
import { makePlan } from "../../plan/make-plan";
import { parseSettings } from "../../plan/settings";
import { buildOutputs } from "../../stacks/build-outputs";
import { outputsSchema } from "../../stacks/outputs";

const { settings } = parseSettings({
  model: "Qwen/Qwen3-0.6B",
  gpus: 2,
  target: "ssh",
  ssh: { hosts: ["root@gpu1:2222", "gpu2"], jumpHost: "bastion" },
});

function preparedHost(name: string, more: Partial<SshTarget> = {}): PreparedHost {
  const facts = hypotheticalHost({ gpus: 2, gpuType: "h100-80gb" });
  const { plan } = makePlan({ settings: settings!, shape: builtInShape(settings!.model)!, hosts: [facts] });
  const target: SshTarget = { kind: "ssh", name, host: name, hostKeys: "known-hosts", sudo: "auto", ...more };
  const tokens = {
    lease: "",
    expiry: "",
    spot: "s",
    driver: "",
    runtime: "",
    weights: "",
    serving: "",
    proof: "",
    trainer: "t",
    training: "u",
    gateway: "g",
  };
  return { host: { name, target, stack: "test", facts, checks: [], tokens }, plan: plan! };
}

function proven(status: "pass" | "fail", servingGiB: number): ProofResult {
  const gpu = { index: 0, uuid: "GPU-0", servingGiB, freeGiB: 40, totalGiB: 79.65 };
  const proof = { generated: { text: "Paris", tokens: 2, seconds: 1 }, models: [], workers: [], gpus: [gpu] };
  return {
    proof: { ...proof, replicas: 2, tensorParallel: 1, tokensPerSecond: 100 },
    checks: [{ name: "generates", status, detail: "" }],
    provenAt: "2026-11-25T10:00:00.000Z",
  };
}

const outputs = buildOutputs({
  prepared: {
    settings: settings!,
    hosts: [preparedHost("gpu1", { user: "root", port: 2222 }), preparedHost("gpu2", { jumpHost: "bastion" })],
  },
  servedModelName: "Qwen/Qwen3-0.6B",
  apiKey: "k",
  proven: [proven("pass", 31), proven("fail", 32)],
  startedAt: "2026-11-25T09:00:00.000Z",
});

describe("outputs of a stack on two hosts", () => {
  it("keep to the schema", () => {
    expect(outputsSchema.parse(outputs)).toEqual(outputs);
  });

  it("give each host a tunnel on a local port of its own", () => {
    expect(outputs.endpoints.connect).toBe("ssh -N -L 8000:127.0.0.1:8000 -p 2222 root@gpu1");
    expect(outputs.hosts.map(({ connect }) => connect)).toEqual([
      outputs.endpoints.connect,
      "ssh -N -L 8001:127.0.0.1:8000 -J bastion gpu2",
    ]);
    expect(outputs.hosts[1]?.baseUrl).toBe("http://127.0.0.1:8001/v1");
  });

  it("name the host of each check and GPU, and are as well as the worst host", () => {
    expect(outputs.health.checks.map(({ name }) => name)).toEqual(["gpu1: generates", "gpu2: generates"]);
    expect(outputs.health.status).toBe("failed");
    expect(outputs.hosts.map(({ health }) => health)).toEqual(["healthy", "failed"]);
    expect(outputs.measured.perGpu).toMatchObject([
      { host: "gpu1", index: 0, servingGiB: 31 },
      { host: "gpu2", index: 0, servingGiB: 32 },
    ]);
  });

  it("add up replicas and speed over the hosts", () => {
    expect(outputs.measured.replicas).toBe(4);
    expect(outputs.measured.tokensPerSecond).toBe(200);
    expect(outputs.plan.replicas).toBe(outputs.hosts.reduce((total, { replicas }) => total + replicas, 0));
  });
});
