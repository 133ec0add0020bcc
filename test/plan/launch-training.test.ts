import { describe, expect, it } from "vitest";
import { builtInShape } from "../../plan/built-in-shapes";
import { compareProof } from "../../plan/compare";
import { hypotheticalHost } from "../../plan/gpu-types";
import { launchTraining } from "../../plan/launch-training";
import { cudaTotalGiB } from "../../plan/ledger";
import { makePlan } from "../../plan/make-plan";
import type { Proof } from "../../plan/proof";
import { parseSettings, type SettingsInput } from "../../plan/settings";

function launch(input: SettingsInput, gpus: number) {
  const settings = parseSettings(input).settings!;
  const facts =
    gpus === 0
      ? { ...hypotheticalHost({ gpus: 1, gpuType: "l4-24gb" }), gpus: [] }
      : hypotheticalHost({ gpus, gpuType: "h100-80gb" });
  const plan = makePlan({ settings, shape: builtInShape(settings.model)!, hosts: [facts] }).plan!;
  const options = { python: "/opt/t/bin/python", modelPath: "/m", servedModelName: settings.model, settings, facts };
  return { plan, ...launchTraining(plan, options) };
}

function valueOf(argv: readonly string[], option: string): string | undefined {
  return argv.includes(option) ? argv[argv.indexOf(option) + 1] : undefined;
}

describe("the trainer's command line", () => {
  const gpu = launch(
    { model: "Qwen/Qwen3-0.6B", gpus: 2, tensorParallel: 2, split: 0.4, training: { backend: "megatron-bridge" } },
    2,
  );

  it("holds the trainer to what is planned for it, less what PyTorch does not count", () => {
    const [ledger] = gpu.plan.perGpu;
    const fraction = Number(valueOf(gpu.argv, "--memory-fraction"));
    const contextGiB = ledger!.parts.find(
      ({ name, side }) => side === "training" && name === "NCCL and context",
    )!.sizeGiB;
    expect(fraction * cudaTotalGiB(ledger!.totalGiB) + contextGiB).toBeLessThanOrEqual(ledger!.trainingGiB);
    expect(fraction * cudaTotalGiB(ledger!.totalGiB) + contextGiB).toBeGreaterThan(ledger!.trainingGiB - 0.1);
  });

  it("uses the GPUs and the tensor parallel size of the plan, and vLLM's own limit of ranks", () => {
    expect(gpu.env["CUDA_VISIBLE_DEVICES"]).toBe("0,1");
    expect(valueOf(gpu.argv, "--tensor-parallel")).toBe(String(gpu.plan.training.tensorParallel));
    expect(valueOf(gpu.argv, "--max-rank")).toBe("64");
    expect(valueOf(gpu.argv, "--vllm")).toBe("http://127.0.0.1:8002");
    expect(valueOf(gpu.argv, "--port")).toBe("8001");
  });

  it("takes the share of the GPUs that have a rank of the trainer", () => {
    const { argv } = launch({ gpus: 4, training: { backend: "huggingface" } }, 4);
    expect(Number(valueOf(argv, "--memory-fraction"))).toBeGreaterThan(0.5);
  });

  it("leaves GPUs and shares out on a machine that serves on its CPU", () => {
    const { argv, env, plan } = launch(
      { gpus: 0, training: { backend: "huggingface" }, serving: { maxModelLen: 2048 } },
      0,
    );
    expect(valueOf(argv, "--device")).toBe("cpu");
    expect(argv).not.toContain("--memory-fraction");
    const room = plan.host!.parts.find(({ side, name }) => side === "training" && name === "adapters and steps");
    expect(Number(valueOf(argv, "--memory-mib"))).toBe(Math.floor(room!.sizeGiB * 1024));
    expect(env).not.toHaveProperty("CUDA_VISIBLE_DEVICES");
  });

  it("limits the adapters' memory where vLLM can read the others from the disk", () => {
    const { plan } = gpu;
    const settings = parseSettings({ model: "Qwen/Qwen3-0.6B", training: { backend: "huggingface" } }).settings!;
    const facts = hypotheticalHost({ gpus: 2, gpuType: "h100-80gb" });
    const options = { python: "/p", modelPath: "/m", servedModelName: "m", settings, facts };
    const { argv, adaptersMib } = launchTraining(plan, { ...options, sharesDisk: true });
    // 28 layers x 32 x 22 528 weights of 4 bytes, twice the 8 that are served at once.
    expect(adaptersMib).toBe(Math.floor((28 * 32 * 22_528 * 4 * 16) / 2 ** 20));
    expect(Number(valueOf(argv, "--adapters-limit-mib"))).toBeLessThan(adaptersMib!);
    expect(launchTraining(plan, options).argv).not.toContain("--adapters-limit-mib");
  });

  it("trains no sequence that could not be served", () => {
    const { argv } = launch({ gpus: 0, training: { backend: "huggingface" }, serving: { maxModelLen: 512 } }, 0);
    expect(valueOf(argv, "--max-sequence-length")).toBe("512");
  });
});

describe("what was measured of the trainer", () => {
  const { plan } = launch({ model: "Qwen/Qwen3-0.6B", gpus: 1, split: 0.4, training: { backend: "huggingface" } }, 1);
  const proof = (more: Partial<Proof>): Proof => ({
    generated: { text: "Paris", tokens: 2, seconds: 1 },
    models: [plan.model],
    workers: [],
    gpus: [],
    ...more,
  });
  const statusOf = (measured: Proof, name: string) =>
    compareProof(plan, measured).find((check) => check.name === name)?.status;

  it("fails when the tiny job did not come through", () => {
    const training = { status: "failed", seconds: 3, detail: "the worker ended" } as const;
    expect(statusOf(proof({ training }), "trains an adapter")).toBe("fail");
    expect(statusOf(proof({ training: { ...training, status: "healthy" } }), "trains an adapter")).toBe("pass");
    expect(statusOf(proof({}), "trains an adapter")).toBeUndefined();
  });

  it("may be less than its share, and fails well above it", () => {
    const { totalGiB, trainingGiB: share } = plan.perGpu[0]!;
    const gpu = (trainingGiB: number) => ({ index: 0, servingGiB: 1, totalGiB, freeGiB: 1, trainingGiB });
    expect(statusOf(proof({ gpus: [gpu(1)] }), "training memory of GPU 0")).toBe("pass");
    expect(statusOf(proof({ gpus: [gpu(share + 0.06 * totalGiB)] }), "training memory of GPU 0")).toBe("fail");
  });
});
