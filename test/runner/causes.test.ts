import { describe, expect, it } from "vitest";
import { findKnownCause } from "../../bootstrap/runner/causes";

/** Lines as vLLM printed them (0.26.0 on 2 H100, 0.32.0 on a CPU, November 2026), and what a user must be told to do. */
const SEEN: readonly [line: string, cure: RegExp][] = [
  ["ValueError: Total number of attention heads (9) must be divisible by tensor parallel size (2).", /tensorParallel/],
  ["RuntimeError: Failed: Cuda error custom_all_reduce.cuh:434 'invalid argument'", /--disable-custom-all-reduce/],
  [
    "ValueError: Free memory on device cuda:0 (10.1/79.18 GiB) on startup is less than desired GPU memory utilization (0.4, 31.67 GiB).",
    /nvidia-smi/,
  ],
  ["ValueError: World size (4) is larger than the number of available GPUs (2) in this node.", /gpus/],
  ["OSError: [Errno 98] Address already in use", /--port/],
  [
    "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name'",
    /hub id/,
  ],
  [
    "ValueError: User-specified max_model_len (4096) is greater than the derived max_model_len (max_position_embeddings=2048.0)",
    /serving\.maxModelLen/,
  ],
  ["ValueError: LoRA rank 32 is greater than max_lora_rank 16.", /lora\.maxRank/],
  ["importlib.metadata.PackageNotFoundError: No package metadata was found for vllm", /runtime step/],
];

describe("known causes", () => {
  it.each(SEEN)("knows: %s", (line, cure) => {
    expect(findKnownCause(`some lines before\n${line}\nsome after`)?.cure).toMatch(cure);
  });

  it("knows nothing of an ordinary line", () => {
    expect(findKnownCause("INFO 11-25 Application startup complete.")).toBeUndefined();
  });
});
