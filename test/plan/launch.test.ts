import { describe, expect, it } from "vitest";
import { type HostFacts, type LaunchOptions, launchServing, type Plan, type RuntimeFacts } from "../../plan";
import { CPU_HOST, H100S, planOf } from "./hosts";

/** The options of vLLM 0.32.0 that matter here. */
const FLAGS = [
  "--model",
  "--served-model-name",
  "--host",
  "--port",
  "--tensor-parallel-size",
  "--pipeline-parallel-size",
  "--data-parallel-size",
  "--disable-custom-all-reduce",
  "--dtype",
  "--max-model-len",
  "--enforce-eager",
  "--trust-remote-code",
  "--kv-cache-memory-bytes",
  "--gpu-memory-utilization",
  "--enable-lora",
  "--max-loras",
  "--max-lora-rank",
];

function launch(
  plan: Plan,
  facts: HostFacts,
  runtime: Partial<RuntimeFacts> = {},
  options: Partial<LaunchOptions> = {},
) {
  const known: RuntimeFacts = { python: "/venv/bin/python", vllmVersion: "0.32.0", device: plan.device, flags: FLAGS };
  return launchServing(
    plan,
    { ...known, ...runtime },
    {
      modelPath: "/models/m",
      servedModelName: "the/model",
      host: "127.0.0.1",
      port: plan.port,
      extraArgs: [],
      extraEnv: {},
      facts,
      ...options,
    },
  );
}

/** The value after an option; undefined when the option is not there. */
function valueOf(argv: readonly string[], option: string): string | undefined {
  const position = argv.indexOf(option);
  return position < 0 ? undefined : argv[position + 1];
}

describe("vLLM's command line on GPUs", () => {
  const host = H100S(4);

  it("starts the API server with the interpreter of the runtime, and does what was planned", () => {
    const plan = planOf({ serving: { maxModelLen: 4096 } }, host);
    const { argv, env, warnings } = launch(plan, host);
    expect(argv.slice(0, 3)).toEqual(["/venv/bin/python", "-m", "vllm.entrypoints.openai.api_server"]);
    expect(valueOf(argv, "--model")).toBe("/models/m");
    expect(valueOf(argv, "--served-model-name")).toBe("the/model");
    expect(valueOf(argv, "--tensor-parallel-size")).toBe("1");
    expect(valueOf(argv, "--data-parallel-size")).toBe("4");
    expect(valueOf(argv, "--max-model-len")).toBe("4096");
    expect(valueOf(argv, "--kv-cache-memory-bytes")).toBe(String(plan.kvCacheBytes));
    expect(valueOf(argv, "--max-loras")).toBe("8");
    expect(argv).not.toContain("--enforce-eager");
    expect(env).toMatchObject({
      CUDA_VISIBLE_DEVICES: "0,1,2,3",
      CUDA_DEVICE_ORDER: "PCI_BUS_ID",
      HF_HUB_OFFLINE: "1",
      VLLM_NO_USAGE_STATS: "1",
      DO_NOT_TRACK: "1",
      VLLM_ALLOW_RUNTIME_LORA_UPDATING: "True",
    });
    expect(warnings).toEqual([]);
  });

  it("starts with the image's interpreter in a container, which reads the weights where they lie", () => {
    const known = { engine: "/usr/bin/docker", kind: "docker", rootless: false, image: "sha256:1" } as const;
    const options = ["--gpus=all"];
    const container = { ...known, version: "28.0.4", reference: "vllm:1", digest: "", options, python: "python3" };
    const launched = launch(planOf({}, host), host, { container });
    expect(launched.argv.slice(0, 3)).toEqual(["python3", "-m", "vllm.entrypoints.openai.api_server"]);
    expect(launched.container).toEqual({ ...known, options, device: "cuda", mounts: ["/models/m"] });
  });

  it("asks for a fraction that clears vLLM's start check beside a trainer at its cap", () => {
    for (const serving of [0.3, 0.4, 0.7, 0.9]) {
      const plan = planOf({ model: "Qwen/Qwen3-0.6B", split: { serving }, tensorParallel: 2, replicas: 1 }, H100S(2));
      const { argv } = launch(plan, H100S(2));
      const [ledger] = plan.perGpu;
      if (ledger === undefined) throw new Error("no ledger");
      const contexts = ledger.parts.find(({ name }) => name === "NCCL and contexts")?.sizeGiB ?? 0;
      // What is free when vLLM looks: CUDA's total, less a trainer that took all the rest, less vLLM's own contexts.
      const cudaTotalGiB = (ledger.totalGiB * 79.18) / 79.65;
      const freeGiB = cudaTotalGiB - (cudaTotalGiB - ledger.servingGiB) - contexts;
      expect(Number(valueOf(argv, "--gpu-memory-utilization")) * cudaTotalGiB).toBeLessThanOrEqual(freeGiB);
    }
  });

  it("falls back to a fraction where the vLLM can't be given the size of its cache", () => {
    const plan = planOf({}, host);
    const flags = FLAGS.filter((flag) => flag !== "--kv-cache-memory-bytes");
    const { argv, warnings } = launch(plan, host, { flags });
    expect(argv).not.toContain("--kv-cache-memory-bytes");
    const fraction = Number(valueOf(argv, "--gpu-memory-utilization"));
    expect(fraction).toBeGreaterThan(0.35);
    expect(fraction).toBeLessThan(0.4);
    expect(warnings).toHaveLength(1);
  });

  it("switches off what dies without peer access, and symmetric memory where multicast is off", () => {
    const plan = planOf({ model: "Qwen/Qwen3-0.6B", tensorParallel: 2 }, host);
    const without = launch(plan, { ...host, peerAccess: false });
    expect(without.argv).toContain("--disable-custom-all-reduce");
    expect(without.env["VLLM_ALLREDUCE_USE_SYMM_MEM"]).toBe("0");
    const noMulticast = launch(plan, { ...host, peerAccess: true, environment: { NCCL_NVLS_ENABLE: "0" } });
    expect(noMulticast.argv).not.toContain("--disable-custom-all-reduce");
    expect(noMulticast.env).toMatchObject({ VLLM_ALLREDUCE_USE_SYMM_MEM: "0", NCCL_NVLS_ENABLE: "0" });
    expect(launch(plan, { ...host, peerAccess: true }).env).not.toHaveProperty("VLLM_ALLREDUCE_USE_SYMM_MEM");
    const single = planOf({ tensorParallel: 1, replicas: 1 }, host);
    expect(launch(single, { ...host, peerAccess: false }).argv).not.toContain("--disable-custom-all-reduce");
  });

  it("lets the user's own arguments and variables come last", () => {
    const plan = planOf({}, host);
    const extra = { extraArgs: ["--max-num-seqs=64"], extraEnv: { VLLM_LOGGING_LEVEL: "DEBUG", HF_HUB_OFFLINE: "0" } };
    const { argv, env } = launch(plan, host, {}, extra);
    expect(argv.at(-1)).toBe("--max-num-seqs=64");
    expect(env).toMatchObject(extra.extraEnv);
  });

  it("serves without adapters when they are off", () => {
    const { argv, env } = launch(planOf({ lora: { enabled: false } }, host), host);
    expect(argv.filter((argument) => argument.includes("lora"))).toEqual([]);
    expect(env).not.toHaveProperty("VLLM_ALLOW_RUNTIME_LORA_UPDATING");
  });

  it("warns of a runtime for another device, and of options that could not be read", () => {
    const plan = planOf({}, host);
    expect(launch(plan, host, { device: "cpu" }).warnings[0]).toContain("runs on cpu");
    expect(launch(plan, host, { flags: [] }).warnings[0]).toContain("could not be read");
  });

  it("never holds a key", () => {
    const { argv, env } = launch(planOf({ hubToken: "hf_secret" }, host), host);
    expect(JSON.stringify({ argv, env })).not.toMatch(/api.?key|hf_secret/i);
  });
});

describe("vLLM's command line on the CPU", () => {
  it("gives the size of the cache and all cores to one worker", () => {
    const plan = planOf({ serving: { maxModelLen: 2048 } }, CPU_HOST);
    const { argv, env } = launch(plan, CPU_HOST);
    expect(valueOf(argv, "--kv-cache-memory-bytes")).toBe(String(plan.kvCacheBytes));
    expect(argv).toContain("--enforce-eager");
    expect(argv).not.toContain("--gpu-memory-utilization");
    expect(env["VLLM_CPU_OMP_THREADS_BIND"]).toBe("0-1");
    expect(env).not.toHaveProperty("CUDA_VISIBLE_DEVICES");
  });

  it.each([
    [2, 2, undefined, "0|1"],
    [2, 8, undefined, "0-3|4-7"],
    [2, 5, undefined, "0-2|3-4"],
    [2, 4, [1, 3, 8, 9], "1,3|8-9"],
  ])("shares the cores out over %i workers on %i cores", (tensorParallel, cpuCores, cpuIds, bind) => {
    const host: HostFacts = { ...CPU_HOST, cpuCores, cpuIds };
    const plan = planOf({ model: "Qwen/Qwen3-0.6B", tensorParallel }, host);
    expect(launch(plan, host).env["VLLM_CPU_OMP_THREADS_BIND"]).toBe(bind);
  });

  it("falls back to the variable where the size of the cache is no option", () => {
    const plan = planOf({}, CPU_HOST);
    const { argv, env, warnings } = launch(plan, CPU_HOST, { flags: FLAGS.filter((flag) => !flag.startsWith("--kv")) });
    expect(argv).not.toContain("--kv-cache-memory-bytes");
    expect(env["VLLM_CPU_KVCACHE_SPACE"]).toBe("2");
    expect(warnings).toHaveLength(1);
  });
});
