import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { podFiles } from "../../bootstrap/kubernetes/prepare";
import type { Proof } from "../../plan";
import { compareProof } from "../../plan/compare";
import { writeStandIn } from "../fakes/vllm/runtime";
import { freePort } from "../fixtures/free-port";
import { cluster, containerIn, cpuNode, manifestsIn, planIn, type Container } from "./clusters";

/**
 * The containers' own commands, probes and the proof, run side by side on this machine as a pod would: what the manifests say, the
 * scripts do. vLLM is the stand-in (test/fakes/vllm), nginx a server that knows a key.
 */
const KEY = `tdm-${"k".repeat(43)}`;
const UPSTREAM = `tdm-${"u".repeat(43)}`;
let folder: string;
let serving: ChildProcess;
let gateway: Server;
let container: Container;
let ports: { port: number; servingPort: number };
let raw: Parameters<typeof planIn>[1];
const facts = cluster([cpuNode("a", { allocatable: { gpus: 0, cpuCores: 4, memoryGiB: 24, diskGiB: 100 } })]);

/** A pod's path on this machine. */
const here = (text: string) =>
  text
    .replaceAll("/opt/tandem/bin", path.join(folder, "bin"))
    .replaceAll(/(?<![\w.])\/cache\b/g, path.join(folder, "cache"));

function environmentOf({ env = [] }: Container): NodeJS.ProcessEnv {
  return {
    PATH: process.env["PATH"],
    PYTHONPATH: path.join(folder, "site-packages"),
    PYTHONDONTWRITEBYTECODE: "1",
    TANDEM_PROBE_MEMORY: path.join(folder, "probe"),
    ...Object.fromEntries(env.map(({ name, value }) => [name, here(value ?? "")])),
    VLLM_API_KEY: UPSTREAM,
  };
}

function run(command: readonly string[], input = "", more: NodeJS.ProcessEnv = {}) {
  const [program = "", ...argv] = command.map(here);
  return spawnSync(program, argv, {
    encoding: "utf8",
    input,
    env: { ...environmentOf(container), ...more },
    timeout: 40_000,
  });
}

function probe(which: "startupProbe" | "readinessProbe" | "livenessProbe") {
  const { exec } = (container as unknown as Record<string, { exec: { command: string[] } }>)[which]!;
  return run(exec.command);
}

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "tandem-pod-"));
  writeStandIn(folder);
  mkdirSync(path.join(folder, "bin"));
  for (const [name, text] of Object.entries(podFiles().scripts)) writeFileSync(path.join(folder, "bin", name), text);
  ports = { port: await freePort(), servingPort: await freePort() };
  raw = {
    gpus: 0,
    port: ports.port,
    gateway: { servingPort: ports.servingPort },
    kubernetes: { images: { serving: "registry.example.com/vllm-cpu:1" } },
  };
  const manifests = manifestsIn(facts, raw);
  container = containerIn(manifests, "serving");
  const weights = containerIn(manifests, "weights");
  const request = JSON.stringify({ source: "directory", model: path.join(folder, "model") });
  const brought = run(weights.command, "", { TANDEM_WEIGHTS: request, TANDEM_CACHE_DIR: path.join(folder, "cache") });
  expect(brought.stderr + brought.stdout).toContain("the model is at");
  const [program = "", ...argv] = [...container.command, ...(container.args ?? [])].map(here);
  serving = spawn(program, argv, { env: environmentOf(container), stdio: "ignore" });
  gateway = createServer((asked, response) => {
    const isOpen = asked.headers.authorization === `Bearer ${KEY}`;
    response.writeHead(!isOpen ? 401 : asked.url === "/v1/models" ? 200 : 404).end();
  }).listen(ports.port, "127.0.0.1");
  await once(gateway, "listening");
}, 60_000);

afterAll(() => {
  serving.kill("SIGKILL");
  gateway.close();
  rmSync(folder, { recursive: true, force: true });
});

describe("a pod's commands, side by side", () => {
  it("come up: the start-up probe fails first and then holds, and so do the others", async () => {
    await expect.poll(() => probe("startupProbe").status, { timeout: 40_000, interval: 500 }).toBe(0);
    expect(probe("readinessProbe")).toMatchObject({ status: 0, stdout: "" });
    expect(probe("livenessProbe")).toMatchObject({ status: 0, stdout: "" });
  });

  it("are proven by what they answer", async () => {
    const { plan } = planIn(facts, raw);
    const request = {
      model: plan!.model,
      servingPort: ports.servingPort,
      gatewayPort: ports.port,
      apiKey: KEY,
      deadlineSeconds: 20,
    };
    // The gateway's stand-in lives in this process: it must be free to answer.
    const prove = spawn("python3", [here("/opt/tandem/bin/prove_pod.py")], {
      env: { ...environmentOf(container), TANDEM_FIRST_PROCESS: String(serving.pid) },
      stdio: ["pipe", "pipe", "inherit"],
    });
    prove.stdin.end(`${JSON.stringify(request)}\n`);
    let stdout = "";
    prove.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    const [code] = (await once(prove, "close")) as [number];
    expect(code).toBe(0);
    const proof = JSON.parse(stdout) as Proof;
    expect(proof.generated.tokens).toBeGreaterThan(0);
    expect(proof).toMatchObject({ models: [plan!.model], maxModelLen: plan!.maxModelLen });
    expect(compareProof(plan!, proof).filter(({ status }) => status === "fail")).toEqual([]);
  });

  it("are not proven where the gateway lets strangers in", async () => {
    gateway.removeAllListeners("request");
    gateway.on("request", (_asked, response) => response.writeHead(200).end());
    const { plan } = planIn(facts, raw);
    const request = {
      model: plan!.model,
      servingPort: ports.servingPort,
      gatewayPort: ports.port,
      apiKey: KEY,
      deadlineSeconds: 20,
    };
    const prove = spawn("python3", [here("/opt/tandem/bin/prove_pod.py")], {
      env: environmentOf(container),
      stdio: ["pipe", "ignore", "pipe"],
    });
    prove.stdin.end(`${JSON.stringify(request)}\n`);
    let stderr = "";
    prove.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    const [code] = (await once(prove, "close")) as [number];
    expect(code).toBe(43);
    expect(stderr).toContain("the gateway answers 200 to /v1/models with no key — expected: 401");
  });

  it("fail their probes when vLLM is gone", async () => {
    serving.kill("SIGKILL");
    await once(serving, "exit");
    expect(probe("readinessProbe")).toMatchObject({ status: 1, stdout: expect.stringContaining("gives no answer") });
  });
});
