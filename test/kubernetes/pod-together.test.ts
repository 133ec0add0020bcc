import { execFileSync, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { podFiles } from "../../bootstrap/kubernetes/prepare";
import type { Proof } from "../../plan";
import { compareProof } from "../../plan/compare";
import { gatewayKeys } from "../../plan/kubernetes-gateway";
import type { ClusterManifests } from "../../plan/kubernetes-manifests";
import { writeStandIn } from "../fakes/vllm/runtime";
import { SHARED_CACHE } from "../host/real-runtime";
import { freePort } from "../fixtures/free-port";
import { cluster, containerIn, cpuNode, manifestsIn, objectOf, planIn, type Container } from "./clusters";

/**
 * The containers' own commands, probes and the proof, run side by side on this machine as a pod would: what the manifests say, the
 * scripts do. nginx is real; vLLM is the stand-in (test/fakes/vllm).
 */
const KEY = `tdm-${"k".repeat(43)}`;
const UPSTREAM = `tdm-${"u".repeat(43)}`;
let folder: string;
let serving: ChildProcess;
let gateway: ChildProcess;
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

/** Starts what ends with this process, however that ends. */
function ending(command: readonly string[], env: NodeJS.ProcessEnv): ChildProcess {
  const mark = { TANDEM_TEST_RUN: process.env["TANDEM_TEST_RUN"] };
  return spawn("setpriv", ["--pdeathsig", "KILL", ...command], { env: { ...env, ...mark }, stdio: "ignore" });
}

/** The gateway's container: its command, with its ConfigMap, Secret and memory as folders. */
function startGateway(manifests: ClusterManifests): ChildProcess {
  const places = { "/etc/tandem-gateway": "gateway", "/etc/tandem-keys": "keys", "/run/tandem-gateway": "gateway-run" };
  for (const name of Object.values(places)) mkdirSync(path.join(folder, name));
  const placed = (text: string) =>
    Object.entries(places).reduce((all, [place, name]) => all.replaceAll(place, path.join(folder, name)), text);
  const { data } = objectOf(manifests, "ConfigMap", "demo-gateway") as unknown as { data: Record<string, string> };
  writeFileSync(path.join(folder, "gateway/nginx.conf"), placed(data["nginx.conf"]!));
  writeFileSync(path.join(folder, "keys/keys.conf"), gatewayKeys({ default: KEY }, UPSTREAM));
  const [, ...argv] = containerIn(manifests, "gateway").command.map(placed);
  // One process, which ends with this one: workers would outlive a master that is killed.
  return ending([findNginx(), ...argv, "-g", "master_process off;"], { PATH: process.env["PATH"] });
}

/** nginx as a host gets it: its own, or the distribution's, unpacked into the tests' cache. */
function findNginx(): string {
  const scripts = path.resolve(__dirname, "../../bootstrap/host");
  const parts = ["common", "unit", "packages", "cache", "nginx"].map((part) => `. "${scripts}/${part}.sh"`);
  const step = path.join(folder, "step");
  mkdirSync(step);
  const env = {
    ...process.env,
    TANDEM_SCRIPTS_DIR: scripts,
    TANDEM_CACHE_DIR: SHARED_CACHE,
    TANDEM_STACK: "pod",
    TANDEM_OWNER: "pod/gateway",
    TANDEM_WORK: "pod",
    ...Object.fromEntries(["STACK_DIR", "STEP_DIR", "HOST_DIR"].map((name) => [`TANDEM_${name}`, step])),
  };
  const command = ["set -eu", ...parts, "find_nginx unpack"].join("; ");
  return execFileSync("sh", ["-c", command], { env, encoding: "utf8", timeout: 60_000 }).trim();
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
  serving = ending([...container.command, ...(container.args ?? [])].map(here), environmentOf(container));
  gateway = startGateway(manifests);
}, 60_000);

afterAll(async () => {
  for (const child of [serving, gateway].filter(
    ({ exitCode, signalCode }) => exitCode === null && signalCode === null,
  )) {
    // In good order: the stand-in has an engine of its own to end.
    child.kill("SIGTERM");
    await once(child, "exit");
  }
  rmSync(folder, { recursive: true, force: true });
});

const proofRequest = (model: string) => ({
  model,
  servingPort: ports.servingPort,
  gatewayPort: ports.port,
  apiKey: KEY,
  deadlineSeconds: 20,
});

async function prove(request: object): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawn("python3", [here("/opt/tandem/bin/prove_pod.py")], {
    env: { ...environmentOf(container), TANDEM_FIRST_PROCESS: String(serving.pid) },
  });
  child.stdin.end(`${JSON.stringify(request)}\n`);
  const outputs = Promise.all([text(child.stdout), text(child.stderr)]);
  const [code] = (await once(child, "close")) as [number];
  const [stdout, stderr] = await outputs;
  return { code, stdout, stderr };
}

describe("a pod's commands, side by side", () => {
  it("come up: the start-up probe fails first and then holds, and so do the others", async () => {
    await expect.poll(() => probe("startupProbe").status, { timeout: 40_000, interval: 500 }).toBe(0);
    expect(probe("readinessProbe")).toMatchObject({ status: 0, stdout: "" });
    expect(probe("livenessProbe")).toMatchObject({ status: 0, stdout: "" });
  });

  it("are proven by what they answer", async () => {
    const { plan } = planIn(facts, raw);
    const { code, stdout } = await prove(proofRequest(plan!.model));
    expect(code).toBe(0);
    const proof = JSON.parse(stdout) as Proof;
    expect(proof.generated.tokens).toBeGreaterThan(0);
    expect(proof).toMatchObject({ models: [plan!.model], maxModelLen: plan!.maxModelLen });
    expect(compareProof(plan!, proof).filter(({ status }) => status === "fail")).toEqual([]);
  });

  it("let nobody in without the key, and nobody past the allow-list", async () => {
    const ask = async (route: string, key?: string) => {
      const headers = new Headers(key === undefined ? [] : [["authorization", `Bearer ${key}`]]);
      return (await fetch(`http://127.0.0.1:${ports.port}${route}`, { headers })).status;
    };
    expect(await ask("/v1/models")).toBe(401);
    expect(await ask("/v1/models", UPSTREAM)).toBe(401);
    expect(await ask("/v1/models", KEY)).toBe(200);
    expect(await ask("/health")).toBe(200);
    expect(await ask("/metrics", KEY)).toBe(200);
    expect(await ask("/metrics")).toBe(401);
    expect(await ask("/invocations", KEY)).toBe(404);
  });

  it("are not proven with another key", async () => {
    const { plan } = planIn(facts, raw);
    const { code, stderr } = await prove({ ...proofRequest(plan!.model), apiKey: `tdm-${"x".repeat(43)}` });
    expect(code).toBe(43);
    expect(stderr).toContain("the gateway answers 401 to /v1/models with the key — expected: 200");
  });

  it("fail their probes when vLLM is gone", async () => {
    serving.kill("SIGTERM");
    await once(serving, "exit");
    expect(probe("readinessProbe")).toMatchObject({ status: 1, stdout: expect.stringContaining("gives no answer") });
  });
});
