import { cpSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { freePort } from "../fixtures/free-port";
import { STAND_IN_VERSION, writeStandIn } from "../fakes/vllm/runtime";
import { type Answer, kill, processesWith, read, TestHost, until } from "./host";

const API_KEY = `tdm-canary-${process.pid}-docker-0123456789`;
const IMAGE = `sha256:${"1".repeat(64)}`;

let host: TestHost;
let fake: string;

beforeEach(() => {
  host = new TestHost();
  fake = path.join(host.root, "docker");
  const bin = path.join(host.root, "bin");
  for (const folder of [fake, bin, path.join(host.root, "stand-in")]) mkdirSync(folder);
  cpSync(path.resolve(__dirname, "../fakes/docker.sh"), path.join(bin, "docker"));
  host.environment["PATH"] = `${bin}:${process.env["PATH"]}`;
  host.environment["TANDEM_CONTAINER_ENGINE"] = "docker";
  host.environment["TANDEM_SYSTEM_ROOT"] = path.join(host.root, "system");
  writeStandIn(path.join(host.root, "stand-in"));
  symlinkSync(path.join(host.root, "stand-in/site-packages"), path.join(fake, "site"));
});
afterEach(() => host.close());

const commands = (verb: string) =>
  read(path.join(fake, "argv"))
    .split("\n")
    .filter((line) => line.startsWith(`${verb} `));

function runtime(more: Readonly<Record<string, unknown>> = {}): Promise<Answer> {
  const document = { kind: "container", device: "cpu", vllmVersion: STAND_IN_VERSION, ...more };
  return host.run(["apply", "runtime"], { document, values: { TANDEM_REPAIR: "#r" } });
}

function withArchive(): string {
  const archive = path.join(host.root, "image.tar");
  writeFileSync(archive, "an image");
  return archive;
}

describe("a container runtime", () => {
  it("is refused where no engine is, and says what to install", async () => {
    host.environment["TANDEM_CONTAINER_ENGINE"] = "no-such-engine";
    expect(await runtime()).toMatchObject({
      code: 29,
      stderr: expect.stringMatching(/neither docker nor podman — fix: .*apt-get install podman/) as string,
    });
  });

  it("is refused where the daemon does not answer, with its words", async () => {
    writeFileSync(path.join(fake, "down"), "");
    expect(await runtime()).toMatchObject({
      code: 29,
      stderr: expect.stringContaining("docker: it does not answer (Cannot connect to the Docker daemon") as string,
    });
  });

  it("is refused for the CPU without an image", async () => {
    expect(await runtime()).toMatchObject({
      code: 29,
      stderr: expect.stringMatching(/^.*runtimeImage — is missing/m) as string,
    });
  });

  it("is refused when the archive is not there, and when the image can't be pulled", async () => {
    const missing = await runtime({ image: "/nowhere/image.tar" });
    expect(missing).toMatchObject({ code: 29, stderr: expect.stringContaining("got '/nowhere/image.tar'") as string });
    writeFileSync(path.join(fake, "no-pull"), "");
    const answer = await runtime({ image: "registry.example/vllm:1" });
    expect(answer.code).toBe(answer.stderr.includes("too little disk") ? 24 : 30);
    expect(answer.stderr).toMatch(
      /too little disk|no such host[^]*can't be pulled, see the lines above — got registry.example/,
    );
  });

  it("is refused when the archive's image would not fit twice", async () => {
    const archive = withArchive();
    // Sparse: its size counts, its blocks don't.
    truncateSync(archive, 2 ** 40);
    host.environment["PATH"] = `${fakeSum()}:${host.environment["PATH"]}`;
    expect(await runtime({ image: archive })).toMatchObject({
      code: 24,
      stderr: expect.stringMatching(
        /too little disk for the image in .* — got \d+ MiB free — allowed: at least 2097153 MiB/,
      ) as string,
    });
    expect(commands("load")).toEqual([]);
  });

  /** Reading a terabyte of zeros takes minutes; the sum of an archive only names it. */
  function fakeSum(): string {
    const folder = path.join(host.root, "sum");
    mkdirSync(folder);
    writeFileSync(
      path.join(folder, "sha256sum"),
      '#!/bin/sh\nif [ $# -gt 0 ]; then echo 0123456789abcdef0123 "$1"; else exec /usr/bin/sha256sum; fi\n',
      { mode: 0o755 },
    );
    return folder;
  }
});

describe("GPUs for a container", () => {
  beforeEach(() => {
    const smi = path.join(host.root, "bin/nvidia-smi");
    writeFileSync(smi, "#!/bin/sh\necho 'GPU 0: stand-in'\n", { mode: 0o755 });
  });

  it("are refused without NVIDIA's toolkit", async () => {
    expect(await runtime({ device: "cuda" })).toMatchObject({
      code: 29,
      stderr: expect.stringContaining(
        "docker: GPUs can't be handed to containers: the NVIDIA Container Toolkit is missing",
      ) as string,
    });
  });

  it("are handed over by --gpus, and CUDA must start inside", async () => {
    writeFileSync(path.join(fake, "toolkit"), "");
    const answer = await runtime({ device: "cuda", image: withArchive() });
    // No libcuda here: the probe in the container says so.
    expect(answer).toMatchObject({
      code: 27,
      stderr: expect.stringContaining("no GPU is seen in the container (docker --gpus=all)") as string,
    });
    expect(commands("run").at(-1)).toContain(" --gpus=all ");
  });
});

describe("vLLM's stand-in with docker's command lines", () => {
  it("runs, is proven, is started again, stops in order, and goes with its image where the lease says so", async () => {
    const answer = await host.run(["apply", "lease"], {
      document: { stack: host.stack, exclusive: false, cache: "remove" },
    });
    expect(answer, answer.stderr).toMatchObject({ code: 0 });
    const installed = await runtime({ image: withArchive() });
    expect(installed, installed.stderr).toMatchObject({ code: 0 });
    const { container, python } = JSON.parse(installed.stdout) as {
      container: Record<string, unknown>;
      python: string;
    };
    expect(container).toMatchObject({ kind: "docker", version: "28.0.4", image: IMAGE, rootless: false });
    const port = await freePort();
    const model = path.join(host.root, "stand-in/model");
    const argv = ["python3", "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--served-model-name", "m"];
    argv.push("--host", "127.0.0.1", "--port", String(port), "--dtype", "bfloat16", "--max-model-len", "512");
    argv.push("--kv-cache-memory-bytes", "67108864");
    const document = {
      argv,
      python,
      env: { HF_HUB_OFFLINE: "1", PATH: "/usr/bin:/bin" },
      port,
      startupSeconds: 30,
      stopSeconds: 5,
    };
    const serving = {
      document: { ...document, container: { ...container, device: "cpu", mounts: [model] } },
      secrets: { apiKey: API_KEY },
    };
    const started = await host.run(["apply", "serving"], serving);
    expect(started, started.stderr).toMatchObject({ code: 0 });

    const [command] = commands("run").slice(-1);
    expect(command).toMatch(
      /^run --rm --name tandem-unit-test-serving-[0-9a-f]{8} --pull=never --network=host --log-driver=none --ipc=host --ulimit=memlock=-1:-1 --ulimit=stack=67108864:67108864 /,
    );
    expect(command).toContain(` --mount type=bind,source=${model},target=${model},readonly `);
    expect(command).toContain(" --env HF_HUB_OFFLINE --env PATH=/usr/bin:/bin --env VLLM_API_KEY --env TANDEM_OWNER ");
    expect(command).toContain(` --entrypoint python3 ${IMAGE} -m vllm.entrypoints.openai.api_server --model ${model} `);
    expect(read(path.join(fake, "argv"))).not.toContain(API_KEY);

    const proof = { baseUrl: `http://127.0.0.1:${port}`, model: "m", deadlineSeconds: 20, unit: "serving" };
    const proven = await host.run(["apply", "proof"], { document: proof, secrets: { apiKey: API_KEY } });
    expect(proven, proven.stderr).toMatchObject({ code: 0 });
    expect(JSON.parse(proven.stdout)).toMatchObject({ replicas: 1, tensorParallel: 1 });

    const name = /--name (\S+)/.exec(command ?? "")?.[1] ?? "";
    const pid = () => Number(read(path.join(fake, "containers", name, "pid")));
    const first = pid();
    kill(first);
    await until("another container", () => pid() !== 0 && pid() !== first, 20);

    const gone = await host.run(["undo", "serving"]);
    expect(gone, gone.stderr).toMatchObject({ code: 0 });
    expect(commands("stop")).toContain(`stop -t 5 ${name}`);
    expect(processesWith("vllm.entrypoints.openai.api_server --model " + model)).toEqual([]);
    const swept = await host.run(["sweep"]);
    expect(swept, swept.stderr).toMatchObject({ code: 0 });
    expect(commands("image").at(-1)).toBe(`image rm -f ${IMAGE}`);
  });
});
