import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { askHub } from "../../bootstrap/runner/hub";
import { requireWeights } from "../../bootstrap/runner/model";
import { parseSettings } from "../../plan/settings";
import { type FakeHub, startFakeHub } from "../fakes/hub";

let hub: FakeHub;
beforeAll(async () => {
  hub = await startFakeHub();
  process.env["HF_ENDPOINT"] = hub.endpoint;
});
afterAll(async () => {
  delete process.env["HF_ENDPOINT"];
  await hub.close();
});

describe("asking the hub", () => {
  it("gives the config of an open model and hands over the token", async () => {
    const answer = await askHub("acme/open", "main", "hf_secret");
    expect(answer).toMatchObject({ kind: "ok", config: { num_attention_heads: 8 } });
    expect(hub.authorizations.at(-1)).toBe("Bearer hf_secret");
  });

  it.each([
    ["acme/gated", { kind: "gated" }],
    ["acme/missing", { kind: "missing", what: "model" }],
    ["acme/private", { kind: "missing", what: "model" }],
    ["acme/no-revision", { kind: "missing", what: "revision" }],
    ["acme/no-config", { kind: "missing", what: "config.json" }],
    ["acme/broken", { kind: "unreachable", reason: "the hub answered 500" }],
  ])("tells the refusals apart: %s", async (model, expected) => {
    expect(await askHub(model, "main", undefined)).toEqual(expected);
  });

  it("gives up on a hub that does not answer in time", async () => {
    const started = Date.now();
    expect(await askHub("acme/slow", "main", undefined, 0.3)).toMatchObject({ kind: "unreachable" });
    expect(Date.now() - started).toBeLessThan(3_000);
  });
});

describe("weights that can't be had are named before anything starts", () => {
  const settingsFor = (model: string) => parseSettings({ model }).settings!;

  it("gated: names the licence and hubToken", async () => {
    await expect(requireWeights(settingsFor("acme/gated"))).rejects.toThrow(/hubToken: .*gated.*accept its licence/);
  });

  it("missing: names the model and asks for its spelling", async () => {
    await expect(requireWeights(settingsFor("acme/missing"))).rejects.toThrow(/model: .*no such model.*acme\/missing/);
  });

  it("no network: says so and names what works without", async () => {
    process.env["HF_ENDPOINT"] = "http://127.0.0.1:9";
    await expect(requireWeights(settingsFor("acme/open"))).rejects.toThrow(/can't be reached.*SmolLM2-135M-Instruct/);
    await expect(requireWeights(settingsFor("HuggingFaceTB/SmolLM2-135M-Instruct"))).resolves.toBeUndefined();
    process.env["HF_ENDPOINT"] = hub.endpoint;
  });
});
