import { z } from "zod";
import type { ProofResult } from "../bootstrap/runner/proof";
import type { Prepared } from "../bootstrap/runner/prepare";

/** Version of the output schema; raised when a field changes its meaning or goes away. */
export const OUTPUTS_VERSION = 1;

const checkSchema = z.object({
  name: z.string(),
  status: z.enum(["pass", "warn", "fail"]),
  seconds: z.number().optional(),
  detail: z.string(),
});

/** The contract of a stack's outputs. Memory in GiB, time in seconds, money in US dollars. */
export const outputsSchema = z.object({
  version: z.literal(OUTPUTS_VERSION),
  endpoints: z.object({
    baseUrl: z.url(),
    chat: z.url(),
    completions: z.url(),
    models: z.url(),
    metrics: z.url().optional(),
    fineTuning: z.url().optional(),
    status: z.url().optional(),
    connect: z.string().optional(),
  }),
  apiKey: z.string(),
  health: z.object({
    status: z.enum(["healthy", "degraded", "failed"]),
    url: z.url(),
    provenAt: z.string(),
    checks: z.array(checkSchema),
  }),
  plan: z.object({
    model: z.string(),
    servedModelName: z.string(),
    device: z.enum(["cuda", "cpu"]),
    gpus: z.array(z.int()),
    tensorParallel: z.int(),
    replicas: z.int(),
    split: z.object({ serving: z.number(), training: z.number() }),
    kvCacheTokens: z.number(),
    perGpu: z.array(
      z.object({
        index: z.int(),
        totalGiB: z.number(),
        servingGiB: z.number(),
        trainingGiB: z.number(),
        freeGiB: z.number(),
        parts: z.array(
          z.object({ side: z.enum(["serving", "training", "free"]), name: z.string(), sizeGiB: z.number() }),
        ),
      }),
    ),
  }),
  measured: z.object({
    tensorParallel: z.int().optional(),
    replicas: z.int().optional(),
    kvCacheTokens: z.number().optional(),
    perGpu: z.array(
      z.object({
        index: z.int(),
        servingGiB: z.number(),
        trainingGiB: z.number(),
        freeGiB: z.number(),
        plannedServingGiB: z.number(),
      }),
    ),
    tokensPerSecond: z.number().optional(),
  }),
  hosts: z.array(
    z.object({
      name: z.string(),
      address: z.string(),
      target: z.string(),
      driver: z.string().optional(),
      gpus: z.array(z.object({ index: z.int(), model: z.string(), memoryGiB: z.number(), link: z.string() })),
    }),
  ),
  cost: z.object({
    pricePerHourUsd: z.number().optional(),
    startedAt: z.string(),
    expiresAt: z.string().optional(),
    capUsd: z.number().optional(),
  }),
});
export type Outputs = z.infer<typeof outputsSchema>;

export interface OutputParts {
  readonly prepared: Prepared;
  readonly servedModelName: string;
  readonly apiKey: string;
  readonly proven: ProofResult;
  /** When the stack took its host, ISO 8601: fixed once, so that a second `up` changes nothing. */
  readonly startedAt: string;
}

/** The only place where outputs are put together. */
export function buildOutputs(parts: OutputParts): Outputs {
  const { prepared, apiKey, proven, startedAt } = parts;
  const { plan, settings } = prepared;
  const server = `http://127.0.0.1:${plan.port}`;
  const baseUrl = `${server}/v1`;
  return {
    version: OUTPUTS_VERSION,
    endpoints: {
      baseUrl,
      chat: `${baseUrl}/chat/completions`,
      completions: `${baseUrl}/completions`,
      models: `${baseUrl}/models`,
      metrics: `${server}/metrics`,
    },
    apiKey,
    health: {
      status: healthOf(proven.checks),
      url: `${server}/health`,
      provenAt: proven.provenAt,
      checks: [...proven.checks],
    },
    plan: plannedPart(parts),
    measured: measuredPart(parts),
    hosts: [hostPart(prepared)],
    cost: {
      pricePerHourUsd: settings.target === "local" ? undefined : plan.cost.pricePerHourUsd,
      startedAt,
      capUsd: plan.cost.capUsd,
    },
  };
}

/** The worst check decides. */
export function healthOf(checks: ProofResult["checks"]): Outputs["health"]["status"] {
  if (checks.some((check) => check.status === "fail")) return "failed";
  return checks.some((check) => check.status === "warn") ? "degraded" : "healthy";
}

function plannedPart({ prepared: { plan }, servedModelName }: OutputParts): Outputs["plan"] {
  return {
    model: plan.model,
    servedModelName,
    device: plan.device,
    gpus: [...plan.gpuIndices],
    tensorParallel: plan.tensorParallel,
    replicas: plan.replicas,
    split: plan.split,
    kvCacheTokens: plan.kvCacheTokens,
    perGpu: plan.perGpu.map((ledger) => ({ ...ledger, parts: [...ledger.parts] })),
  };
}

function measuredPart({ prepared: { plan }, proven: { proof } }: OutputParts): Outputs["measured"] {
  return {
    tensorParallel: proof.tensorParallel,
    replicas: proof.replicas,
    kvCacheTokens: proof.kvCacheTokens,
    perGpu: proof.gpus.map((gpu) => ({
      index: gpu.index,
      servingGiB: gpu.servingGiB,
      trainingGiB: 0,
      freeGiB: gpu.freeGiB,
      plannedServingGiB: plan.perGpu.find((ledger) => ledger.index === gpu.index)?.servingGiB ?? 0,
    })),
    tokensPerSecond: proof.tokensPerSecond,
  };
}

function hostPart({ host: { facts }, settings }: Prepared): Outputs["hosts"][number] {
  return {
    name: facts.name,
    address: "127.0.0.1",
    target: settings.target,
    driver: facts.driverVersion,
    gpus: facts.gpus.map(({ index, model, memoryGiB }) => ({ index, model, memoryGiB, link: facts.gpuLink })),
  };
}

/** Lines for a shell: `eval "$(tandem outputs --env-vars)"`. */
export function toShellEnvironment(outputs: Outputs): string {
  const variables = {
    TANDEM_BASE_URL: outputs.endpoints.baseUrl,
    TANDEM_API_KEY: outputs.apiKey,
    TANDEM_MODEL: outputs.plan.servedModelName,
    // The names that the official openai clients read by themselves.
    OPENAI_BASE_URL: outputs.endpoints.baseUrl,
    OPENAI_API_KEY: outputs.apiKey,
  };
  return Object.entries(variables)
    .map(([name, value]) => `export ${name}='${value.replaceAll("'", `'\\''`)}'`)
    .join("\n");
}
