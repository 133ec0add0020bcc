import { evaluate, type Candidate, type GpuContext } from "./candidate";
import type { ModelShape } from "./model-shape";
import { legalTrainerSizes, legalVllmSizes, trainerObjections, vllmObjections } from "./parallel";
import type { Problem } from "./problem";

export type ParallelChoice =
  | { readonly chosen: Candidate; readonly reasons: readonly string[]; readonly problems: readonly [] }
  | { readonly chosen?: undefined; readonly problems: readonly Problem[] };

/**
 * Picks tensor parallel size x replicas: the smallest size that fits and leaves a useful KV cache, and replicas on what is left.
 * A small size needs no communication, and replicas answer more users than one spread copy does.
 */
export function chooseParallel(context: GpuContext): ParallelChoice {
  const problems = sizeProblems(context);
  if (problems.length > 0) return { problems };
  const candidates = layouts(context).map(({ tensorParallel, replicas }) =>
    evaluate(context, tensorParallel, replicas),
  );
  const chosen = best(candidates, context);
  if (chosen === undefined) return { problems: [shortageProblem(context, candidates)] };
  return { chosen, reasons: reasonsFor(context, chosen, candidates), problems: [] };
}

/** All layouts that the settings allow, smallest tensor parallel size first. */
function layouts({ settings, shape, gpus }: GpuContext): { tensorParallel: number; replicas: number }[] {
  const slots = Math.floor(gpus.length / settings.pipelineParallel);
  const sizes = settings.tensorParallel === "auto" ? legalVllmSizes(shape, slots) : [settings.tensorParallel];
  return sizes.flatMap((tensorParallel) => {
    const most = Math.floor(slots / tensorParallel);
    const replicas = settings.replicas === "auto" ? (isMixture(shape) ? 1 : most) : settings.replicas;
    return replicas >= 1 && replicas <= most ? [{ tensorParallel, replicas }] : [];
  });
}

/**
 * vLLM's data parallel ranks are independent copies of a dense model. Of a mixture of experts they share out the experts and run
 * in lock-step (read in 0.32.0), so its GPUs are better spent on tensor parallelism, and the ledger holds for that only.
 */
export function isMixture({ experts }: ModelShape): boolean {
  return experts > 1;
}

function best(candidates: readonly Candidate[], { gpus, settings }: GpuContext): Candidate | undefined {
  const usesAll = ({ tensorParallel, replicas }: Candidate) =>
    tensorParallel * replicas * settings.pipelineParallel === gpus.length;
  const fitting = candidates.filter(({ verdict }) => verdict === "fits");
  const tight = candidates.filter(({ verdict }) => verdict === "tight");
  const roomiest = tight.toSorted((left, right) => right.kv.tokens - left.kv.tokens);
  return fitting.find(usesAll) ?? fitting[0] ?? roomiest.find(usesAll) ?? roomiest[0];
}

/** What is wrong with the sizes that were asked for, before any memory is counted. */
function sizeProblems(context: GpuContext): Problem[] {
  const { settings, shape, gpus } = context;
  const { tensorParallel, replicas, pipelineParallel } = settings;
  const problems: Problem[] = [];
  const objections = tensorParallel === "auto" ? [] : vllmObjections(shape, tensorParallel);
  if (objections.length > 0) {
    problems.push({
      setting: "tensorParallel",
      what: `${shape.id} has ${listed(objections)}, which can't be divided by it`,
      value: String(tensorParallel),
      allowed: listed(legalVllmSizes(shape, Math.max(8, gpus.length)).map(String), "or"),
      fix: "set `tensorParallel` to auto: replicas fill the GPUs that it leaves",
    });
  }
  problems.push(...trainerSizeProblem(context));
  if (pipelineParallel > shape.layers) {
    problems.push({
      setting: "pipelineParallel",
      what: `${shape.id} has only ${shape.layers} layers`,
      value: String(pipelineParallel),
      allowed: `1 to ${shape.layers}`,
    });
  }
  const needed =
    (tensorParallel === "auto" ? 1 : tensorParallel) * (replicas === "auto" ? 1 : replicas) * pipelineParallel;
  if (needed > gpus.length) {
    const setting =
      tensorParallel !== "auto" && tensorParallel > gpus.length
        ? "tensorParallel"
        : replicas === "auto"
          ? "pipelineParallel"
          : "replicas";
    problems.push({
      setting,
      what: `tensor parallel x pipeline parallel x replicas needs ${needed} GPUs and there are ${gpus.length}`,
      value: `${String(tensorParallel)} x ${pipelineParallel} x ${String(replicas)}`,
      allowed: `a product of ${gpus.length} at most`,
      fix: "leave `tensorParallel` and `replicas` at auto",
    });
  }
  return problems;
}

function trainerSizeProblem({ settings, shape, gpus }: GpuContext): Problem[] {
  const { backend, tensorParallel } = settings.training;
  if (backend !== "megatron-bridge" || tensorParallel === "auto") return [];
  const legal = legalTrainerSizes(shape, gpus.length);
  if (legal.includes(tensorParallel)) return [];
  const objections = trainerObjections(shape, tensorParallel);
  return [
    {
      setting: "training.tensorParallel",
      what:
        objections.length > 0
          ? `${shape.id} has ${listed(objections)}, which can't be divided by it`
          : `the trainer would leave some of ${gpusOf(gpus.length)} out`,
      value: String(tensorParallel),
      allowed: listed(legal.map(String), "or"),
      fix: "set `training.tensorParallel` to auto",
    },
  ];
}

function shortageProblem({ settings, shape, gpus }: GpuContext, candidates: readonly Candidate[]): Problem {
  // The largest size needs the least memory: what it lacks is what is really missing.
  const last = candidates.at(-1);
  return {
    setting: "model",
    what: `${shape.id} does not fit: ${last?.shortage ?? "no layout of the GPUs is possible"}`,
    value: `${gpus.length} x ${(gpus[0]?.memoryGiB ?? 0).toFixed(1)} GiB, serving ${settings.split.serving}, training ${settings.split.training}`,
  };
}

function reasonsFor(context: GpuContext, chosen: Candidate, candidates: readonly Candidate[]): string[] {
  const { settings, shape, gpus } = context;
  const { tensorParallel, replicas } = chosen;
  const reasons: string[] = [];
  const impossible = impossibleSizes(context);
  if (impossible !== undefined) reasons.push(impossible);
  if (settings.tensorParallel === "auto" && isMixture(shape) && tensorParallel > 1) {
    reasons.push(`tensor parallel ${tensorParallel}: vLLM has no independent replicas of a mixture of experts`);
  } else if (settings.tensorParallel === "auto") {
    const smaller = candidates.filter((candidate) => candidate.tensorParallel < tensorParallel).at(-1);
    reasons.push(
      smaller === undefined
        ? `tensor parallel ${tensorParallel}: one copy fits on ${gpusOf(tensorParallel * settings.pipelineParallel)}, so nothing is spent on communication`
        : `tensor parallel ${tensorParallel}: ${smaller.shortage ?? `${smaller.tensorParallel} would hold only ${smaller.kv.tokens} tokens in its KV cache`}`,
    );
  }
  if (settings.replicas === "auto" && replicas > 1) {
    reasons.push(
      `${replicas} replicas: they fill the ${gpus.length} GPUs behind one address, and every replica gets every adapter`,
    );
  }
  if (settings.serving.maxModelLen === undefined && chosen.maxModelLen < shape.maxPositions) {
    reasons.push(
      `${chosen.maxModelLen} tokens a request: the KV cache holds no more, the model was made for ${shape.maxPositions}`,
    );
  }
  return reasons;
}

/** Why sizes that would use all GPUs are out, e.g. `9 attention heads: tensor parallel 2 and 4 can't divide them`. */
function impossibleSizes({ shape, gpus, settings }: GpuContext): string | undefined {
  const slots = Math.floor(gpus.length / settings.pipelineParallel);
  const sizes = Array.from({ length: slots }, (_, index) => index + 1).filter((size) => size > 1 && slots % size === 0);
  const out = sizes.filter((size) => vllmObjections(shape, size).length > 0);
  const [first] = out;
  if (first === undefined) return undefined;
  return `${listed(vllmObjections(shape, first))}: tensor parallel ${listed(out.map(String), "or")} is impossible`;
}

export function gpusOf(count: number): string {
  return count === 1 ? "one GPU" : `${count} GPUs`;
}

/** `1, 3 and 9`. */
export function listed(items: readonly string[], last: "and" | "or" = "and"): string {
  return items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} ${last} ${items.at(-1)}`;
}
