import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { createServer } from "node:net";
import * as path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Proof } from "../../plan/proof";
import { freePort } from "../fixtures/free-port";
import { type Answer, answerOf, kill, processesWith, read, TestHost, until } from "./host";
import { applyRuntime, SHARED_CACHE } from "./real-runtime";

const MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct";
const API_KEY = `tdm-canary-${process.pid}-0123456789abcdef`;
const STARTUP_SECONDS = 280;

/** A model of random weights whose four heads can be split over two workers, with SmolLM2's tokenizer. */
const MAKE_TINY = `
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
config = LlamaConfig(vocab_size=49152, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=64, max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)
torch.manual_seed(0)
LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(sys.argv[1])`;

interface Serving {
  readonly unitId: string;
  readonly pid: number;
  readonly port: number;
  readonly logPath: string;
}

let host: TestHost;
let python: string;
let smol: string;
let tiny: string;
let port: number;

beforeAll(async () => {
  host = new TestHost({}, { TANDEM_CACHE_DIR: SHARED_CACHE });
  ({ python } = await applyRuntime(host));
  const document = { source: "auto", model: MODEL, revision: "main", python, fallbackPackage: true };
  const weights = await host.run(["apply", "weights"], { document });
  expect(weights, weights.stderr).toMatchObject({ code: 0 });
  smol = (JSON.parse(weights.stdout) as { path: string }).path;
  tiny = path.join(host.root, "tiny");
  mkdirSync(tiny);
  execFileSync(python, ["-c", MAKE_TINY, tiny], { stdio: "pipe", env: { ...process.env, HF_HUB_OFFLINE: "1" } });
  for (const name of ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
    copyFileSync(path.join(smol, name), path.join(tiny, name));
  port = await freePort();
});
afterAll(() => host.close());
afterEach(async () => {
  await host.run(["undo", "proof"]);
  await host.run(["undo", "serving"]);
});

function servingDocument(model: string, more: readonly string[] = [], env: Record<string, string> = {}) {
  const argv = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--served-model-name", MODEL];
  argv.push("--host", "127.0.0.1", "--port", String(port), "--dtype", "bfloat16", "--enforce-eager");
  argv.push("--kv-cache-memory-bytes", "64M", ...more);
  const fixed = { HF_HUB_OFFLINE: "1", VLLM_NO_USAGE_STATS: "1" };
  return { argv, env: { ...fixed, ...env }, port, startupSeconds: STARTUP_SECONDS, stopSeconds: 30 };
}

function serving(document: unknown): {
  document: unknown;
  secrets: Record<string, string>;
  values: Record<string, string>;
} {
  return { document, secrets: { apiKey: API_KEY }, values: { TANDEM_TIMEOUT_SECONDS: "300", TANDEM_REPAIR: "#1" } };
}

async function started(document: unknown): Promise<Serving & { stderr: string }> {
  const answer = await host.run(["apply", "serving"], serving(document));
  expect(answer, answer.stderr).toMatchObject({ code: 0 });
  return { ...(JSON.parse(answer.stdout) as Serving), stderr: answer.stderr };
}

function prove(): Promise<Answer> {
  const document = { baseUrl: `http://127.0.0.1:${port}`, model: MODEL, deadlineSeconds: 60, unit: "serving" };
  return host.run(["apply", "proof"], { document, secrets: { apiKey: API_KEY }, values: { TANDEM_REPAIR: "#2" } });
}

async function proven(): Promise<Proof & { unitId: string }> {
  const answer = await prove();
  expect(answer, answer.stderr).toMatchObject({ code: 0 });
  return JSON.parse(answer.stdout) as Proof & { unitId: string };
}

const checkOf = async (step: string) => (await host.check()).find((check) => check.step === step);

describe("serving on this machine", () => {
  it("starts a real model, proves it, keeps its key to itself, changes nothing twice, is repaired, and goes", async () => {
    const document = servingDocument(smol, ["--max-model-len", "512"]);
    const first = await started(document);
    for (const line of [
      "starting vLLM",
      "loading weights 100 %",
      /KV cache [\d,]+ tokens/,
      /vLLM is ready after [\d.]+ s/,
    ]) {
      expect(first.stderr).toMatch(line);
    }

    const proof = await proven();
    expect(proof.generated.text).toContain("Paris");
    expect(proof).toMatchObject({
      models: [MODEL],
      maxModelLen: 512,
      tensorParallel: 1,
      replicas: 1,
      gpus: [],
      unitId: first.unitId,
    });
    expect(proof.workers).toHaveLength(1);
    expect(proof.kvCacheTokens).toBeGreaterThan(512);
    expect(proof.tokensPerSecond).toBeGreaterThan(0);

    expectKeyHidden();
    const second = await started(document);
    expect(second.stderr).toBe("vLLM is running as asked for\n");
    expect(second).toMatchObject({ unitId: first.unitId, pid: first.pid });
    for (const check of await host.check()) expect(check).toMatchObject({ holds: true });

    await expectRepair(first);
    const gone = await host.run(["undo", "serving"]);
    expect(gone).toMatchObject({ code: 0, stderr: expect.stringContaining(`port ${port} is free`) as string });
    expect(processesWith(host.stackDir)).toEqual([]);
  });

  /** Kills the API server: the supervisor starts it again, and what was proven of the old process counts no more. */
  async function expectRepair(before: Serving): Promise<void> {
    kill(before.pid);
    await until(
      "the drift shows",
      () => !read(path.join(host.stackDir, "units/serving/status.json")).includes(before.unitId),
      30,
    );
    expect(await checkOf("proof")).toMatchObject({
      holds: false,
      reason: expect.stringMatching(/started again|not running/) as string,
    });
    await until(
      "vLLM answers again",
      () =>
        /Application startup complete/.test(
          read(before.logPath)
            .split(/starting it again/)
            .at(-1) ?? "",
        ),
      STARTUP_SECONDS,
    );
    const answer = await proven();
    expect(answer.unitId).not.toBe(before.unitId);
    expect(answer.generated.text).toContain("Paris");
    expect(await checkOf("proof")).toMatchObject({ holds: true });
    expect(await checkOf("serving")).toMatchObject({ holds: true });
  }

  function expectKeyHidden(): void {
    for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
      expect(read(`/proc/${name}/cmdline`), `command line of ${name}`).not.toContain(API_KEY);
    }
    const files = readdirSync(host.hostDir, { recursive: true, encoding: "utf8" }).map((name) =>
      path.join(host.hostDir, name),
    );
    const holding = files.filter((file) => statSync(file).isFile() && read(file).includes(API_KEY));
    expect(holding.map((file) => path.basename(file))).toEqual(["secret.json"]);
    for (const file of files) expect(statSync(file).mode & 0o077, file).toBe(0);
  }

  it("counts two tensor-parallel workers from the processes", async () => {
    const more = ["--max-model-len", "256", "--tensor-parallel-size", "2"];
    await started(servingDocument(tiny, more, { VLLM_CPU_OMP_THREADS_BIND: "0|1" }));
    expect(await proven()).toMatchObject({ tensorParallel: 2, replicas: 1, workers: [{ rank: 0 }, { rank: 1 }] });
  });

  it("goes on starting when its client is killed and when the work is stopped", async () => {
    const document = servingDocument(tiny, ["--max-model-len", "256"]);
    const client = host.start(["apply", "serving"], serving(document));
    const log = path.join(host.stackDir, "units/serving/log");
    await until("vLLM is starting", () => existsSync(log) && read(log).includes("started process"), 30);
    client.kill("SIGKILL");
    const second = host.start(["apply", "serving"], serving(document));
    const attached = answerOf(second);
    await new Promise((resolve) => second.stderr?.once("data", resolve));
    expect((await host.run(["stop"])).code).toBe(0);
    expect(await attached).toMatchObject({
      code: 143,
      stderr: expect.stringContaining("already being done, attaching") as string,
    });
    const third = await started(document);
    expect(third.stderr).toContain("vLLM is starting already");
    expect(read(log).match(/tandem: .* started process/g)).toHaveLength(1);
  });
});

describe("serving that can't start", () => {
  it("says vLLM's own root cause and where the log is, and leaves nothing running", async () => {
    const document = servingDocument(smol, ["--max-model-len", "512", "--tensor-parallel-size", "2"]);
    const answer = await host.run(["apply", "serving"], serving(document));
    expect(answer.code).toBe(32);
    expect(answer.stderr).toContain(
      "root cause: Total number of attention heads (9) must be divisible by tensor parallel size (2).\n",
    );
    const log = /^log: (.*)$/m.exec(answer.stderr)?.[1] ?? "";
    expect(read(log)).toContain("must be divisible by tensor parallel size");
    expect(processesWith(path.join(host.stackDir, "units/serving"))).toEqual([]);
    expect(await checkOf("serving")).toMatchObject({ holds: false, reason: "its last apply did not finish" });
  });

  it("names who holds the port, and starts nothing", async () => {
    const server = createServer().listen(port, "127.0.0.1");
    try {
      const answer = await host.run(["apply", "serving"], serving(servingDocument(tiny, ["--max-model-len", "256"])));
      expect(answer.code).toBe(31);
      expect(answer.stderr).toMatch(
        new RegExp(`^port ${port} is taken by process ${process.pid} .*node.* — fix: stop it, or choose another port`),
      );
    } finally {
      server.close();
    }
  });

  it("is ended when it is not ready in time", async () => {
    const document = { ...servingDocument(tiny, ["--max-model-len", "256"]), startupSeconds: 2 };
    const answer = await host.run(["apply", "serving"], serving(document));
    expect(answer).toMatchObject({
      code: 124,
      stderr: expect.stringContaining("vLLM was not ready after 2 s") as string,
    });
    expect(processesWith(path.join(host.stackDir, "units/serving"))).toEqual([]);
  });
});
