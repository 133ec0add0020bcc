import { GENERAL_CAUSES, HOST_CAUSES } from "./causes-host";
import { describeXid } from "./xids";

/** A failure that is known: what its log says, why it happens and what to do. */
export interface KnownCause {
  readonly pattern: RegExp;
  readonly cause: string;
  readonly cure: string;
}

/**
 * Failures seen with vLLM 0.26 to 0.32 (first ten measured in November 2026, see `docs/measurements.md`; the others are vLLM's own texts).
 * The first that matches wins, so the special stand before the general.
 */
const SERVING_CAUSES: readonly KnownCause[] = [
  {
    pattern: /Total number of attention heads \(\d+\) must be divisible by tensor parallel size \(\d+\)/,
    cause: "The model's attention heads can't be split over that many GPUs.",
    cure: "Set tensorParallel to auto; `tandem plan` names the sizes that work.",
  },
  {
    pattern: /custom_all_reduce\.cuh:\d+ 'invalid argument'/,
    cause: "vLLM's own all-reduce needs peer access between the GPUs, which this (virtual) machine does not give.",
    cure: "Add --disable-custom-all-reduce: tandem up --set serving.extraArgs='[\"--disable-custom-all-reduce\"]'.",
  },
  {
    pattern: /Free memory on device .* is less than desired GPU memory utilization/,
    cause: "Something else holds memory of that GPU, so the chosen share is not free.",
    cure: "See who it is with nvidia-smi, stop it, or choose a smaller split.serving.",
  },
  {
    pattern: /World size \(\d+\) is larger than the number of available GPUs/,
    cause: "vLLM sees fewer GPUs than the plan uses.",
    cure: "Compare `nvidia-smi -L` with the settings gpus and devices.",
  },
  {
    pattern: /CUDA out of memory|torch\.OutOfMemoryError|CUDA error: out of memory/,
    cause: "The GPU's memory ran out.",
    cure: "Choose a larger split.serving, a smaller serving.maxModelLen or fewer lora.maxAdapters; `tandem plan` shows the ledger.",
  },
  {
    pattern:
      /No available memory for the cache blocks|is larger than the (?:available KV cache memory|maximum number of tokens that can be stored in KV cache)/,
    cause: "After weights and activations too little memory is left for a single full-length sequence.",
    cure: "Choose a larger split.serving or a smaller serving.maxModelLen.",
  },
  {
    pattern: /User-specified max_model_len \(\d+\) is greater than the derived max_model_len/,
    cause: "serving.maxModelLen is longer than the model was made for.",
    cure: "Leave serving.maxModelLen out, or set it to what the model's config.json allows.",
  },
  {
    pattern: /error: unrecognized arguments: (.+)/,
    cause: "This vLLM has no flag $1.",
    cure: "Correct serving.extraArgs, or take it out: tandem up --set serving.extraArgs='[]'.",
  },
  {
    pattern: /Address already in use|port \d+ is (?:taken|held)/i,
    cause: "Another program listens on the port.",
    cure: "Stop it, or choose another: tandem up --port 8001.",
  },
  {
    pattern: /HFValidationError: Repo id must be in the form|Invalid repository ID or local directory specified/,
    cause: "The model path is neither a model directory nor a hub id.",
    cure: "Set model to a hub id (owner/name) or to a directory that holds config.json.",
  },
  {
    pattern: /LoRA rank (\d+) is greater than max_lora_rank/,
    cause: "The adapter's rank is above lora.maxRank.",
    cure: "Raise lora.maxRank to the adapter's rank (the next of 1, 8, 16, 32, 64, 128, 256, 320, 512).",
  },
  {
    pattern: /GatedRepo|gated repo|is gated/i,
    cause: "The model is gated: the hub gives it only to accounts that accepted its licence.",
    cure: "Accept the licence on the model's page and set hubToken: tandem up --hub-token @FILE",
  },
  {
    pattern: /No space left on device/,
    cause: "The disk is full.",
    cure: "Free some space; `tandem plan` says how much is needed, caches lie in the folder that `tandem destroy` names.",
  },
  {
    pattern: /CUDA driver version is insufficient|forward compatibility was attempted|driver on your system is too old/,
    cause: "The NVIDIA driver is older than the CUDA version of this vLLM needs (CUDA 13: branch 580).",
    cure: "Install driver branch 580 or newer and reboot.",
  },
  {
    pattern: /PackageNotFoundError.*vllm/,
    cause: "The Python environment of vLLM is incomplete.",
    cure: "Run `tandem up` again: the runtime step rebuilds it.",
  },
  {
    pattern: /fatal error: Python\.h: No such file|Failed to find C compiler|gcc.*not found/,
    cause: "Triton compiles small C programs at start and finds no C compiler or no Python headers.",
    cure: "Install them, on Debian and Ubuntu: apt-get install gcc python3-dev.",
  },
  {
    pattern: /Killed|oom-kill|Out of memory: Killed process/,
    cause: "The kernel ended the process: the machine's memory ran out.",
    cure: "Choose a smaller serving.maxModelLen or model, or stop other programs.",
  },
  {
    pattern: /NCCL error|ncclSystemError|ncclUnhandledCudaError/,
    cause: "The GPUs' communication library could not set up its links.",
    cure: "Look for 'NCCL WARN' in the log with --set serving.extraEnv.NCCL_DEBUG=WARN; too small a /dev/shm and blocked peer access are the usual reasons.",
  },
];

const KNOWN_CAUSES: readonly KnownCause[] = [...HOST_CAUSES, ...SERVING_CAUSES, ...GENERAL_CAUSES];

/** The first known cause that the text shows, with what it names filled in, or undefined. */
export function findKnownCause(text: string): KnownCause | undefined {
  for (const known of KNOWN_CAUSES) {
    const match = known.pattern.exec(text);
    if (match !== null)
      return { ...known, cause: known.cause.replaceAll(/\$(\d)/g, (_, group) => match[Number(group)] ?? "") };
  }
  return xidCause(text);
}

/** The last GPU error of the kernel's that means more than a program's own fault. */
function xidCause(text: string): KnownCause | undefined {
  const pattern = /NVRM: Xid \(PCI:([0-9A-Fa-f:.]+)\): (\d+)/g;
  const [, address, code] =
    [...text.matchAll(pattern)].findLast(([, , number]) => describeXid(Number(number)).verdict === "fail") ?? [];
  if (code === undefined) return undefined;
  const { meaning, cure } = describeXid(Number(code));
  return { pattern, cause: `GPU ${address} had Xid ${code}: ${meaning}.`, cure: `On the host: ${cure}.` };
}
