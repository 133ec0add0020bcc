import { readdirSync, rmSync, statSync } from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { RuntimeFacts } from "../../plan";
import { freePort } from "../fixtures/free-port";
import { ContainerHost, describeWithPodman } from "./container-host";
import { kill, processesWith, read, until } from "./host";

const API_KEY = `tdm-canary-${process.pid}-container-0123456789`;
const MODEL = "stand-in";

interface Serving {
  readonly unitId: string;
  readonly pid: number;
}
type Container = NonNullable<RuntimeFacts["container"]>;
type Runtime = RuntimeFacts & { readonly path: string; readonly container: Container };

describeWithPodman("vLLM's stand-in in a container of the real podman", () => {
  let host: ContainerHost;
  let runtime: Runtime;
  let port: number;
  let started: Serving;

  beforeAll(async () => {
    host = new ContainerHost();
    port = await freePort();
  });
  afterAll(() => host.close());

  async function applied<Result>(step: string, document: unknown): Promise<Result & { stderr: string }> {
    const answer = await host.run(["apply", step], {
      document,
      secrets: { apiKey: API_KEY },
      values: { TANDEM_REPAIR: "#1", TANDEM_TIMEOUT_SECONDS: "60" },
    });
    expect(answer, answer.stderr).toMatchObject({ code: 0 });
    return { ...(JSON.parse(answer.stdout) as Result), stderr: answer.stderr };
  }

  const runtimeDocument = () => ({ kind: "container", device: "cpu", vllmVersion: "0.32.0", image: host.archive });

  function servingDocument() {
    const { container, python } = runtime;
    const argv = [container.python, "-m", "vllm.entrypoints.openai.api_server", "--model", host.model];
    argv.push("--served-model-name", MODEL, "--host", "127.0.0.1", "--port", String(port), "--dtype", "bfloat16");
    argv.push("--max-model-len", "512", "--kv-cache-memory-bytes", "67108864");
    const env = { HF_HUB_OFFLINE: "1", PYTHONUNBUFFERED: "1" };
    const limits = { port, startupSeconds: 60, stopSeconds: 5 };
    return { argv, env, python, container: { ...container, device: "cpu", mounts: [host.model] }, ...limits };
  }

  const proofDocument = () => ({
    baseUrl: `http://127.0.0.1:${port}`,
    model: MODEL,
    deadlineSeconds: 30,
    unit: "serving",
  });
  const status = () =>
    JSON.parse(read(path.join(host.stackDir, "units/serving/status.json")) || "{}") as Record<string, unknown>;
  const containers = () => host.podman("ps", "-aq").split("\n").filter(Boolean);
  const checkOf = async (step: string) => (await host.check()).find((check) => check.step === step);

  /** Waits until another run of the service than the one with this id answers again. */
  async function answersAgain(before: unknown): Promise<void> {
    await until("another run", () => status()["state"] === "running" && status()["unitId"] !== before, 90);
    const log = path.join(host.stackDir, "units/serving/log");
    await until(
      "it is up",
      () => read(log).split("starting it again").at(-1)?.includes("startup complete") === true,
      90,
    );
  }

  it("loads the archive, pins the image by its id, asks for the options once, and does nothing twice", async () => {
    const first = await applied<Runtime>("runtime", runtimeDocument());
    runtime = first;
    expect(first.flags).toContain("--kv-cache-memory-bytes");
    expect(first.container).toMatchObject({ kind: "podman", rootless: false, reference: host.archive });
    expect(first.container.image).toBe(host.podman("image", "inspect", "-f", "{{.Id}}", first.container.image));
    expect(first.stderr).toContain("loading the image archive");
    const second = await applied<Runtime>("runtime", runtimeDocument());
    expect(second.stderr).not.toMatch(/loading|asking/);
    expect({ ...second, stderr: "" }).toEqual({ ...first, stderr: "" });
    expect(containers()).toEqual([]);
  });

  it("serves, is proven, counts its workers, and holds", async () => {
    started = await applied<Serving>("serving", servingDocument());
    const proof = await applied<Record<string, unknown>>("proof", proofDocument());
    expect(proof).toMatchObject({ tensorParallel: 1, replicas: 1, models: [MODEL], unitId: started.unitId });
    expect(proof["workers"]).toHaveLength(1);
    for (const check of await host.check()) expect(check).toMatchObject({ holds: true });
    expect(containers()).toHaveLength(1);
  });

  it("is given its key without any command line or file of others' showing it", () => {
    const inspected = host.podman("inspect", ...containers());
    expect(inspected).toContain(host.model);
    for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
      expect(read(`/proc/${name}/cmdline`), `command line of ${name}`).not.toContain(API_KEY);
    }
    const files = readdirSync(host.hostDir, { recursive: true, encoding: "utf8" })
      .map((name) => path.join(host.hostDir, name))
      .filter((file) => statSync(file).isFile() && read(file).includes(API_KEY));
    expect(files.map((file) => path.basename(file))).toEqual(["secret.json"]);
  });

  it("listens on loopback only, reads the weights and cannot write them", () => {
    const inside = host.podman("exec", ...containers(), "python3", "-c", WRITES, host.model);
    expect(inside).toMatch(/Read-only file system/);
    const local = read("/proc/net/tcp")
      .split("\n")
      .filter((line) => line.includes(`:${port.toString(16).toUpperCase().padStart(4, "0")} 00000000:0000 0A`));
    expect(local).toHaveLength(1);
    expect(local[0]).toContain("0100007F:");
  });

  it.each([
    [
      "its program in the container",
      () => kill(Number(host.podman("inspect", "-f", "{{.State.Pid}}", ...containers()))),
    ],
    ["podman's client", () => kill(processesWith(`run --rm --name tandem-${host.stack}`)[0] ?? 0)],
    ["what watches over the container", () => kill(Number(status()["pid"]))],
    ["the container, removed by hand", () => host.podman("rm", "-f", ...containers())],
  ])("is started again after the loss of %s, with one container", async (_what, lose) => {
    const before = status()["unitId"];
    lose();
    await answersAgain(before);
    expect(containers()).toHaveLength(1);
    expect(await checkOf("proof")).toMatchObject({ holds: false });
  });

  it("shows a killed supervisor, and starts again over the container that was left", async () => {
    const { supervisorPid, keeperPid, pid } = status();
    for (const process_ of [supervisorPid, keeperPid, pid]) kill(Number(process_));
    await until("the loss shows", () => processesWith("supervise_container.py").length === 0);
    expect(await checkOf("serving")).toMatchObject({ holds: false });
    const again = await applied<Serving>("serving", servingDocument());
    expect(again.unitId).not.toBe(started.unitId);
    expect(containers()).toHaveLength(1);
  });

  it("leaves nothing after undo, and the image stays", async () => {
    const answer = await host.run(["undo", "serving"]);
    expect(answer, answer.stderr).toMatchObject({ code: 0 });
    expect(containers()).toEqual([]);
    expect(processesWith(host.stackDir)).toEqual([]);
    expect(host.podman("images", "-aq", "--no-trunc")).toContain(runtime.container.image);
    expect(await checkOf("runtime")).toMatchObject({ holds: true });
  });

  it("is swept although everything that knew the container was killed", async () => {
    await applied<Serving>("serving", servingDocument());
    const { supervisorPid, keeperPid, pid } = status();
    for (const process_ of [supervisorPid, keeperPid, pid]) kill(Number(process_));
    rmSync(path.join(host.stackDir, "units"), { recursive: true });
    const answer = await host.run(["sweep"]);
    expect(answer, answer.stderr).toMatchObject({ code: 0 });
    expect(containers()).toEqual([]);
    expect(processesWith(`tandem-${host.stack}`)).toEqual([]);
  });
});

const WRITES = `
import sys
try: open(sys.argv[1] + "/new", "w")
except OSError as error: print(error)`;
