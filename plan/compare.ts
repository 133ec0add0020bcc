import { kvWithin, percent } from "./compare-numbers";
import type { Plan } from "./plan";
import type { Proof } from "./proof";

/** One thing that was planned and then measured. */
export interface Check {
  readonly name: string;
  readonly status: "pass" | "warn" | "fail";
  /** What was planned and what was found, for people. */
  readonly detail: string;
  readonly seconds?: number;
}

/** The proof allows itself this long for one answer before it calls it slow. */
const SLOW_ANSWER_SECONDS = 30;
/** vLLM's footprint may miss its share by this much of a GPU before somebody should look, and before it endangers the trainer. */
const FOOTPRINT_WARN_SHARE = 0.02;
const FOOTPRINT_FAIL_SHARE = 0.05;

/** Compares what was measured with what was planned: one check a promise, in the order in which a reader wants to know. */
export function compareProof(plan: Plan, proof: Proof): Check[] {
  return [
    generation(proof),
    servedModel(plan, proof),
    parallelSize("tensor parallel size", plan.tensorParallel, proof.tensorParallel),
    parallelSize("replicas", plan.replicas, proof.replicas),
    ...workerPlacement(plan, proof),
    requestLength(plan, proof),
    kvCache(plan, proof),
    ...footprints(plan, proof),
    ...trainerFootprints(plan, proof),
    ...trainsAnAdapter(proof),
  ];
}

function generation({ generated, tokensPerSecond }: Proof): Check {
  const seconds = generated.seconds;
  const name = "generates";
  if (generated.tokens < 1 || generated.text.trim() === "")
    return { name, status: "fail", detail: "the answer holds no text", seconds };
  const speed = tokensPerSecond === undefined ? "" : `, ${Math.round(tokensPerSecond)} tokens/s`;
  const detail = `${generated.tokens} tokens in ${seconds.toFixed(1)} s${speed}: ${JSON.stringify(cut(generated.text))}`;
  return { name, status: seconds > SLOW_ANSWER_SECONDS ? "warn" : "pass", detail, seconds };
}

function servedModel({ model }: Plan, { models }: Proof): Check {
  const name = "model";
  if (models.includes(model)) return { name, status: "pass", detail: `answers as ${model}` };
  return { name, status: "fail", detail: `planned ${model}, answers as ${models.join(", ") || "nothing"}` };
}

function parallelSize(name: string, planned: number, found: number | undefined): Check {
  if (found === undefined) return { name, status: "warn", detail: `planned ${planned}, could not be counted` };
  if (found === planned) return { name, status: "pass", detail: `${found}, counted from the worker processes` };
  return { name, status: "fail", detail: `planned ${planned}, found ${found} worker processes' worth` };
}

/** Every planned GPU runs a worker, and no other GPU does. */
function workerPlacement(plan: Plan, { workers }: Proof): Check[] {
  if (plan.device === "cpu") return [];
  const found = [...new Set(workers.flatMap(({ gpuIndex }) => gpuIndex ?? []))].toSorted((left, right) => left - right);
  const name = "GPUs in use";
  if (found.length === 0)
    return [
      {
        name,
        status: "warn",
        detail: `planned ${plan.gpuIndices.join(", ")}, the workers' GPUs could not be found out`,
      },
    ];
  const planned = plan.gpuIndices.toSorted((left, right) => left - right);
  const same = planned.length === found.length && planned.every((index, position) => index === found[position]);
  if (same) return [{ name, status: "pass", detail: found.join(", ") }];
  return [{ name, status: "fail", detail: `planned ${planned.join(", ")}, workers run on ${found.join(", ")}` }];
}

function requestLength({ maxModelLen: planned }: Plan, { maxModelLen: found }: Proof): Check {
  const name = "tokens a request";
  if (found === undefined) return { name, status: "warn", detail: `planned ${planned}, not reported` };
  return {
    name,
    status: found === planned ? "pass" : "fail",
    detail: found === planned ? String(found) : `planned ${planned}, found ${found}`,
  };
}

function kvCache({ kvCacheTokens: planned }: Plan, { kvCacheTokens: found }: Proof): Check {
  const name = "KV cache";
  if (found === undefined) return { name, status: "warn", detail: `planned ${planned} tokens, not reported` };
  return { name, status: kvWithin(planned, found), detail: `${found} tokens, planned ${planned}` };
}

function footprints(plan: Plan, { gpus }: Proof): Check[] {
  return plan.perGpu.map((ledger) => {
    const name = `memory of GPU ${ledger.index}`;
    const found = gpus.find(({ index }) => index === ledger.index);
    if (found === undefined) return { name, status: "warn", detail: "could not be measured" };
    const detail = `serving takes ${found.servingGiB.toFixed(2)} GiB (${percent(found.servingGiB, found.totalGiB)}), planned ${ledger.servingGiB.toFixed(2)} (${percent(ledger.servingGiB, ledger.totalGiB)})`;
    const over = (found.servingGiB - ledger.servingGiB) / found.totalGiB;
    const status = over > FOOTPRINT_FAIL_SHARE ? "fail" : Math.abs(over) > FOOTPRINT_WARN_SHARE ? "warn" : "pass";
    return { name, status, detail };
  });
}

/** The trainer is held to its share, so that it can't take vLLM's; less is no fault, since a larger batch takes more. */
function trainerFootprints(plan: Plan, { gpus }: Proof): Check[] {
  return plan.perGpu.flatMap((ledger) => {
    const found = gpus.find(({ index }) => index === ledger.index);
    if (found?.trainingGiB === undefined || plan.training.backend === "off") return [];
    const detail = `the trainer takes ${found.trainingGiB.toFixed(2)} GiB, of at most ${ledger.trainingGiB.toFixed(2)}`;
    const over = (found.trainingGiB - ledger.trainingGiB) / found.totalGiB;
    const status = over > FOOTPRINT_FAIL_SHARE ? "fail" : over > FOOTPRINT_WARN_SHARE ? "warn" : "pass";
    return [{ name: `training memory of GPU ${ledger.index}`, status, detail }];
  });
}

function trainsAnAdapter({ training }: Proof): Check[] {
  if (training === undefined) return [];
  const { status, seconds, detail } = training;
  return [{ name: "trains an adapter", status: status === "healthy" ? "pass" : "fail", seconds, detail }];
}

function cut(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
