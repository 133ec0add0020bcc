import type { HostFacts } from "./facts";
import { cudaEnvironment } from "./launch-environment";
import { cudaTotalGiB } from "./ledger";
import type { Plan } from "./plan";
import type { Settings } from "./settings";
import { STEPS_PART } from "./training-cpu";

export interface TrainingLaunchOptions {
  /** The trainer's Python on the host. */
  readonly python: string;
  /** Directory of the weights on the host. */
  readonly modelPath: string;
  /** Name that clients call the base model by. */
  readonly servedModelName: string;
  readonly settings: Settings;
  readonly facts: HostFacts;
  /** Whether vLLM can read the disk where the trainer keeps adapters: then memory holds only those that it has room for. */
  readonly sharesDisk?: boolean;
}

/** Of the memory file system; the rest is for rounding to pages and for what is being copied. */
const USABLE_MEMORY = 0.95;

/**
 * How the trainer is started so that it keeps to its share. `{state}`, `{adapters}` and `{package}` stand for folders of the host,
 * which its script knows.
 */
export function launchTraining(
  plan: Plan,
  { python, modelPath, servedModelName, settings, facts, sharesDisk = false }: TrainingLaunchOptions,
): { argv: string[]; env: Record<string, string>; adaptersMib?: number } {
  const { training, lora } = settings;
  const share = trainerMemoryFraction(plan);
  const argv = [
    ...[python, "-m", "tandem_trainer", "--state", "{state}", "--adapters", "{adapters}"],
    ...["--model", modelPath, "--model-name", servedModelName, "--vllm", `http://127.0.0.1:${plan.servingPort}`],
    ...["--port", String(plan.training.port), "--backend", training.backend],
    ...["--max-rank", String(lora.maxRank), "--tensor-parallel", String(plan.training.tensorParallel)],
    ...["--max-sequence-length", String(Math.min(training.sequenceLength, plan.maxModelLen))],
    ...(plan.device === "cpu" ? ["--device", "cpu", "--memory-mib", hostMemoryMib(plan)] : []),
    ...(share === undefined ? [] : ["--memory-fraction", share]),
    ...(sharesDisk ? ["--adapters-limit-mib", String(Math.floor(USABLE_MEMORY * plan.training.adaptersMib))] : []),
    ...(training.copyTo === undefined ? [] : ["--copy-to", training.copyTo]),
  ];
  return {
    argv,
    env: {
      ...facts.environment,
      ...(plan.device === "cuda" ? cudaEnvironment(plan, facts) : {}),
      PYTHONPATH: "{package}",
      PYTHONUNBUFFERED: "1",
      HF_HUB_OFFLINE: "1",
      TOKENIZERS_PARALLELISM: "false",
    },
    ...(sharesDisk && { adaptersMib: plan.training.adaptersMib }),
  };
}

/** What the trainer may take of a machine's memory beyond the base model. */
function hostMemoryMib({ host }: Plan): string {
  const roomGiB = host?.parts.find(({ side, name }) => side === "training" && name === STEPS_PART)?.sizeGiB ?? 0;
  return String(Math.floor(roomGiB * 1024));
}

/**
 * What PyTorch may take of a GPU: the planned training side without CUDA's context and NCCL, which PyTorch does not count,
 * as a fraction of the total that CUDA sees; of the GPUs that have a rank of it.
 */
function trainerMemoryFraction({ perGpu }: Plan): string | undefined {
  const trained = perGpu.filter(({ trainingGiB }) => trainingGiB > 0);
  const fractions = trained.map(({ totalGiB, trainingGiB, parts }) => {
    const context = parts.find(({ side, name }) => side === "training" && name === "NCCL and context")?.sizeGiB ?? 0;
    return (trainingGiB - context) / cudaTotalGiB(totalGiB);
  });
  return fractions.length === 0 ? undefined : (Math.floor(Math.min(...fractions) * 1000) / 1000).toFixed(3);
}
