import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { HOST_SCRIPTS } from "./host";

function python(code: string, input: string): string {
  const program = `import sys; sys.path.insert(0, ${JSON.stringify(HOST_SCRIPTS)}); from vllm_log import *\n${code}`;
  return execFileSync("python3", ["-Bc", program], { encoding: "utf8", input }).trimEnd();
}

const rootCause = (log: string) => python("print(root_cause(sys.stdin.read().splitlines()))", log);
const progress = (log: string) =>
  python("p = Progress()\nfor line in sys.stdin.read().splitlines():\n  t = p.tell(line)\n  if t: print(t)", log).split(
    "\n",
  );

// HEADS as vLLM 0.32.0 (CPU) printed it, shortened; the other two set messages seen on 2 × H100 into the same form.
const HEADS = `
(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1)   File "vllm/engine/arg_utils.py", line 2, in create_engine_config
(APIServer pid=1) pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig
(APIServer pid=1)   Value error, Total number of attention heads (9) must be divisible by tensor parallel size (2). [type=value_error, input_value=ArgsKwargs]
(APIServer pid=1)     For further information visit https://errors.pydantic.dev/2.14/v/value_error`;

const ENGINE = `
(EngineCore_DP0 pid=20) ERROR 11-25 04:33:00 [core.py:1] EngineCore failed to start.
(EngineCore_DP0 pid=20) ERROR 11-25 04:33:00 [core.py:1] Traceback (most recent call last):
(EngineCore_DP0 pid=20) ERROR 11-25 04:33:00 [core.py:1] ValueError: Free memory on device cuda:0 (3.1/79.18 GiB) on startup is less than desired GPU memory utilization (0.4, 31.67 GiB).
(EngineCore_DP0 pid=20) Process EngineCore_DP0:
(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}`;

const WORKER = `
(Worker_TP1 pid=31) ERROR 11-25 04:33:00 [multiproc_executor.py:1] WorkerProc failed to start.
(Worker_TP1 pid=31) ERROR 11-25 04:33:00 [multiproc_executor.py:1] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
(EngineCore pid=20) ERROR 11-25 04:33:00 [core.py:1] Exception: WorkerProc initialization failed due to an exception in a background process.
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}`;

describe("the root cause of a failed start", () => {
  it.each([
    [
      "a reason that pydantic wraps",
      HEADS,
      "Total number of attention heads (9) must be divisible by tensor parallel size (2).",
    ],
    [
      "the engine's exception, not the server's",
      ENGINE,
      "ValueError: Free memory on device cuda:0 (3.1/79.18 GiB) on startup is less than desired GPU memory utilization (0.4, 31.67 GiB).",
    ],
    [
      "the worker's exception, not the engine's",
      WORKER,
      "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    ],
    ["a taken port", "OSError: [Errno 98] Address already in use\n", "OSError: [Errno 98] Address already in use"],
    [
      "an unknown option",
      "api_server.py: error: unrecognized arguments: --nope",
      "api_server.py: error: unrecognized arguments: --nope",
    ],
    [
      "a program that can't be started",
      "tandem: can't start /x/python: [Errno 2] No such file",
      "tandem: can't start /x/python: [Errno 2] No such file",
    ],
    ["nothing, when there is none", "INFO all is well\n", ""],
  ])("is %s", (_what, log, cause) => {
    expect(rootCause(log)).toBe(cause);
  });
});

it("vLLM's start-up lines become progress, each once", () => {
  const log = `
(Worker pid=2) INFO 11-25 04:59:12 [cpu_model_runner.py:68] Starting to load model /models/smol...
Loading safetensors checkpoint shards:   0% Completed | 0/2 [00:00<?, ?it/s]
Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:00<00:00,  3.59it/s]
Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:00<00:00,  3.59it/s]
(Worker pid=2) INFO 11-25 04:59:12 [default_loader.py:501] Loading weights took 0.29 seconds
(Worker_TP0 pid=2) INFO 11-25 04:59:12 [gpu_model_runner.py:1] Model loading took 1.41 GiB and 3.1 seconds
(EngineCore pid=3) INFO 11-25 04:59:14 [kv_cache_utils.py:2327] CPU KV cache size: 65,536 tokens, Maximum concurrency
Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  40%|████      | 20/51 [00:01<00:02, 14.21it/s]
(Worker_TP0 pid=2) INFO 11-25 04:59:12 [gpu_model_runner.py:1] Graph capturing finished in 12 secs, took 2.42 GiB
INFO:     Application startup complete.`;
  expect(progress(log)).toEqual([
    "loading weights",
    "loading weights 0 %",
    "loading weights 50 %",
    "weights loaded in 0.29 s",
    "model takes 1.41 GiB",
    "KV cache 65,536 tokens",
    "capturing CUDA graphs 40 %",
    "CUDA graphs captured in 12 s",
    "API is up",
  ]);
});
