import { z } from "zod";

/** Version of the output schema; raised when a field changes its meaning or goes away. */
export const OUTPUTS_VERSION = 1;

const healthSchema = z.enum(["healthy", "degraded", "failed"]);

const checkSchema = z.object({
  name: z.string(),
  status: z.enum(["pass", "warn", "fail"]),
  seconds: z.number().optional(),
  detail: z.string(),
});

/**
 * The contract of a stack's outputs. Memory in GiB, time in seconds, money in US dollars. With several hosts `endpoints` are the
 * first one's, `hosts` has each one's, replicas and tokens are of all together, and what belongs to one GPU names its host.
 */
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
    /** SHA-256 of the gateway's certificate, to be compared where it is no authority's. */
    certificateFingerprint: z.string().optional(),
  }),
  apiKey: z.string(),
  /** Every key by its name; `apiKey` is the one called `default`. */
  apiKeys: z.record(z.string(), z.string()).default({}),
  health: z.object({
    status: healthSchema,
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
        host: z.string().optional(),
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
        host: z.string().optional(),
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
      baseUrl: z.url(),
      fineTuning: z.url().optional(),
      connect: z.string().optional(),
      health: healthSchema,
      tensorParallel: z.int(),
      replicas: z.int(),
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

/** What a program that uses the environment reads. */
export function outputVariables(outputs: Outputs): Readonly<Record<string, string>> {
  return {
    TANDEM_BASE_URL: outputs.endpoints.baseUrl,
    TANDEM_API_KEY: outputs.apiKey,
    TANDEM_MODEL: outputs.plan.servedModelName,
    // The names that the official openai clients read by themselves.
    OPENAI_BASE_URL: outputs.endpoints.baseUrl,
    OPENAI_API_KEY: outputs.apiKey,
    ...(outputs.endpoints.fineTuning !== undefined && { TANDEM_TRAINING_URL: outputs.endpoints.fineTuning }),
  };
}

/** Lines for a shell: `eval "$(tandem outputs --env-vars)"`. */
export function toShellEnvironment(outputs: Outputs): string {
  return Object.entries(outputVariables(outputs))
    .map(([name, value]) => `export ${name}='${value.replaceAll("'", `'\\''`)}'`)
    .join("\n");
}
