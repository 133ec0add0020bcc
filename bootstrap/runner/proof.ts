import { compareProof, type Check } from "../../plan/compare";
import type { Plan } from "../../plan/plan";
import type { Proof } from "../../plan/proof";
import { applyStep, StepError, type StepOptions } from "./step";
import type { StepRequest } from "./request";

/** What the proof step gives: the measured truth, and how it compares with the plan. */
export interface ProofResult {
  readonly proof: Proof;
  readonly checks: readonly Check[];
  /** When the proof was made, ISO 8601. */
  readonly provenAt: string;
}

interface ProofDocumentArgs {
  readonly plan: Plan;
  /** Name that clients call the model by. */
  readonly servedModelName: string;
  /** Id of the serving unit's present run; another id means that the proof is due again. */
  readonly unitId?: string;
  /** Whether a tiny job is to go through the whole way of training, where the plan trains. */
  readonly deep: boolean;
  /** Id of the trainer's present run. */
  readonly trainingUnitId?: string;
  /** What the gateway's step told. */
  readonly gateway?: Proof["gateway"];
}

/** Time for one generated token, in seconds: the first request compiles kernels and fills caches. */
const TOKEN_DEADLINE_SECONDS = 120;

/** The document of the proof step; the runner compares with `plan`, the host's script reads the rest. */
export function proofDocument({ plan, servedModelName, unitId, deep, trainingUnitId, gateway }: ProofDocumentArgs) {
  return {
    baseUrl: `http://127.0.0.1:${plan.servingPort}`,
    model: servedModelName,
    tensorParallel: plan.tensorParallel,
    replicas: plan.replicas,
    deadlineSeconds: TOKEN_DEADLINE_SECONDS,
    unit: "serving",
    unitId,
    ...(gateway && { gateway }),
    ...(plan.footprint && { footprintKey: plan.footprint.key, kvCacheBytes: plan.kvCacheBytes }),
    ...(deep &&
      plan.training.backend !== "off" && {
        training: {
          url: `http://127.0.0.1:${plan.training.port}`,
          unit: "training",
          unitId: trainingUnitId,
          deadlineSeconds: TRAINING_DEADLINE_SECONDS,
        },
      }),
    plan,
  };
}

/** Time for one tiny training job, in seconds; it takes its turn among the jobs that are running. */
const TRAINING_DEADLINE_SECONDS = 180;

/** Limit of the whole proof step, in seconds: a token, a measured stream, the look at the GPUs and a training job. */
export const PROOF_TIMEOUT_SECONDS = TOKEN_DEADLINE_SECONDS + TRAINING_DEADLINE_SECONDS + 120;

/**
 * Applies a proof step and compares what it measured with the plan in its document.
 * @throws StepError when a check fails; names each with what was planned and what was found
 */
export async function proveStep(request: StepRequest, options: StepOptions): Promise<Record<string, unknown>> {
  const { plan } = request.document as { plan: Plan };
  const result = await measure(request, plan, options);
  const failed = result.checks.filter((check) => check.status === "fail");
  for (const check of result.checks) options.onProgress(`${check.status}: ${check.name} — ${check.detail}`);
  if (failed.length > 0) {
    const lines = failed.map((check) => `  ${check.name}: ${check.detail}`).join("\n");
    throw new StepError(
      "proof",
      `proof failed: the service does not do what was planned\n${lines}\n  log:   tandem logs serving`,
    );
  }
  return { ...result };
}

async function measure(request: StepRequest, plan: Plan, options: StepOptions): Promise<ProofResult> {
  const proof = (await applyStep(request, options)) as unknown as Proof;
  return { proof, checks: compareProof(plan, proof), provenAt: new Date().toISOString() };
}
