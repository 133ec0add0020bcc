import * as pulumi from "@pulumi/pulumi";
import { beforeAll, describe, expect, it } from "vitest";
import type { Host } from "../../bootstrap/runner/observe";
import type { Prepared } from "../../bootstrap/runner/prepare";
import { ServingPair } from "../../components/serving-pair";
import { builtInShape } from "../../plan/built-in-shapes";
import { hypotheticalHost } from "../../plan/gpu-types";
import { makePlan } from "../../plan/make-plan";
import { parseSettings } from "../../plan/settings";

interface Recorded {
  readonly type: string;
  readonly inputs: Record<string, unknown>;
}
const recorded = new Map<string, Recorded>();

/** What each step's script prints, as far as the components read it. */
const RESULTS: Readonly<Record<string, object>> = {
  lease: { leaseId: "l1", createdAt: "2026-11-25T04:00:00Z" },
  runtime: {
    python: "/opt/vllm/bin/python",
    vllmVersion: "0.32.0",
    device: "cuda",
    flags: ["--kv-cache-memory-bytes"],
  },
  weights: { path: "/cache/models/m", bytes: 1, digest: "d1" },
  serving: { unitId: "u1", port: 8000 },
  gateway: { unitId: "g1", port: 8000, nginxVersion: "1.22.1" },
  proof: { proof: {}, checks: [], provenAt: "2026-11-25T04:01:00Z" },
};
const KEY = "tdm-canary-0123456789";

function preparedHost(reachable = true): Prepared {
  const settings = parseSettings({ model: "Qwen/Qwen3-0.6B", gpus: 2, hubToken: "hf_canary_token" }).settings!;
  const facts = hypotheticalHost({ gpus: 2, gpuType: "h100-80gb" });
  const result = makePlan({ settings, shape: builtInShape(settings.model)!, hosts: [facts] });
  const tokens = {
    lease: "a",
    expiry: "a",
    spot: "s",
    driver: "d",
    runtime: "b",
    weights: "c",
    serving: "unit stopped #1",
    proof: "e",
    trainer: "t",
    training: "u",
    gateway: "g",
  };
  const host: Host = {
    name: "local",
    target: { kind: "local" },
    stack: "test",
    facts,
    checks: [],
    tokens,
    ...(!reachable && { unreachableBecause: "connection timed out" }),
  };
  return { settings, hosts: [{ host, plan: result.plan! }] };
}

async function make(name: string, prepared: Prepared): Promise<ServingPair> {
  const pair = new ServingPair(name, prepared);
  await new Promise((resolve) => pulumi.all([pair.proven, pair.apiKey, pair.startedAt]).apply(resolve));
  return pair;
}

beforeAll(async () => {
  await pulumi.runtime.setMocks({
    newResource: ({ name, type, inputs }) => {
      recorded.set(name, { type, inputs });
      const step = name.split("-").at(-1) ?? "";
      const stdout = step === "key" ? KEY : JSON.stringify(RESULTS[step] ?? {});
      return { id: `${name}-id`, state: { ...inputs, stdout, stderr: "" } };
    },
    call: () => ({}),
  });
  await make("pair", preparedHost());
});

/** Inputs as the engine gets them; secrets arrive wrapped. */
function inputsOf(name: string): Record<string, unknown> {
  return recorded.get(name)!.inputs;
}
function open(value: unknown): string {
  return typeof value === "object" && value !== null && "value" in value ? String(value.value) : String(value);
}

describe("ServingPair", () => {
  it("makes one command a step, a key for its users and one for the services behind the gateway", () => {
    const commands = [...recorded].filter(([, { type }]) => type === "command:local:Command").map(([name]) => name);
    expect(commands.sort()).toEqual(
      [
        ...["pair-driver", "pair-gateway", "pair-key", "pair-lease", "pair-proof", "pair-runtime", "pair-serving"],
        ...["pair-upstream-key", "pair-weights"],
      ].sort(),
    );
  });

  it("hands over secrets on standard input only, never in the command or the environment", () => {
    for (const name of ["pair-serving", "pair-gateway", "pair-proof", "pair-weights"]) {
      const { create, update, delete: remove, environment, stdin } = inputsOf(name);
      const visible = JSON.stringify([create, update, remove, environment]);
      expect(visible).not.toContain(KEY);
      expect(visible).not.toContain("hf_canary_token");
      expect(open(stdin)).toMatch(name === "pair-weights" ? "hf_canary_token" : KEY);
    }
    expect(open(inputsOf("pair-runtime")["stdin"])).not.toMatch(/hf_canary_token|tdm-canary/);
  });

  it("shows a broken step as an input that names the reason", () => {
    expect(inputsOf("pair-serving")["environment"]).toEqual({ TANDEM_REPAIR: "unit stopped #1" });
  });

  it("gives vLLM the plan's sizes, the weights' path and no key", () => {
    const { document } = JSON.parse(open(inputsOf("pair-serving")["stdin"])) as {
      document: { argv: string[]; env: Record<string, string>; weightsDigest: string };
    };
    expect(document.argv.slice(0, 3)).toEqual(["/opt/vllm/bin/python", "-m", "vllm.entrypoints.openai.api_server"]);
    expect(document.argv).toContain("/cache/models/m");
    expect(document.weightsDigest).toBe("d1");
    expect(JSON.stringify(document)).not.toContain(KEY);
  });

  it("proves again whenever the serving unit is another one", () => {
    expect(open(inputsOf("pair-proof")["stdin"])).toContain('"unitId":"u1"');
  });

  it("prints no key in the log of a run", () => {
    expect(inputsOf("pair-key")["logging"]).toBe("none");
  });

  it("names a host's steps by the host, so that one more host changes no other", async () => {
    const { settings, hosts } = preparedHost();
    const [{ host, plan }] = hosts as [Prepared["hosts"][number]];
    const named = (name: string) => {
      const target = { kind: "ssh", name, host: name, hostKeys: "known-hosts", sudo: "auto" } as const;
      return { host: { ...host, name, target }, plan };
    };
    await make("one", { settings, hosts: [named("gpu1")] });
    const before = structuredClone(open(inputsOf("one-gpu1-runtime")["stdin"]));
    await make("one", { settings, hosts: [named("gpu0"), named("gpu1")] });
    expect(open(inputsOf("one-gpu1-runtime")["stdin"])).toBe(before);
    expect([...recorded.keys()].filter((name) => name.startsWith("one-") && name.endsWith("-key"))).toEqual([
      "one-key",
      "one-upstream-key",
    ]);
  });
});
