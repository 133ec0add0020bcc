import { z } from "zod";
import { setting } from "./setting";

/** Settings of the trainer. The sizes are what the memory ledger reserves for. */
export const trainingSettings = z
  .strictObject({
    backend: setting(z.enum(["megatron-bridge", "huggingface", "off"]).default("off"), {
      doc: "What trains adapters: Megatron-Bridge, Hugging Face's PEFT, or nothing. With `off` the training share stays free.",
      allowed: "megatron-bridge, huggingface or off",
      example: "megatron-bridge",
    }),
    port: setting(z.number().int().min(1).max(65535).optional(), {
      doc: "Port of the training API, on loopback. It passes everything that is not about training on to the model, so one address does for both.",
      allowed: "a whole number from 1 to 65535",
      otherwise: "one more than `port`",
      example: 8001,
    }),
    runtimePath: setting(z.string().min(1).optional(), {
      doc: "A Python on the machine that has what the trainer needs (`bootstrap/trainer/requirements-*.txt`), for machines without a package index.",
      allowed: "a path",
      otherwise: "an environment is made",
      example: "/opt/trainer/bin/python",
    }),
    copyTo: setting(
      z
        .string()
        .regex(/^(\/|s3:\/\/)\S+$/)
        .optional(),
      {
        doc: "A directory of the machine, or an S3 address, that gets a copy of every finished adapter. For S3 the machine's own credentials are used: its role, or those in `~/.aws`; none are kept.",
        allowed: "an absolute path, or an address that starts with s3://",
        otherwise: "adapters are kept in the stack's folder only, and go with it",
        example: "s3://my-adapters/tandem",
      },
    ),
    tensorParallel: setting(z.union([z.literal("auto"), z.number().int().min(1).max(1024)]).default("auto"), {
      doc: "Over how many GPUs Megatron-Bridge spreads the model. `auto` takes the smallest number at which the trainer stays in its share.",
      allowed: "auto, or a whole number that divides the GPUs and the model's attention heads",
      example: 2,
    }),
    rank: setting(z.number().int().min(1).max(512).optional(), {
      doc: "The adapter rank that memory is reserved for; at most `lora.maxRank`, or the result could not be served.",
      allowed: "a whole number from 1 to 512",
      otherwise: "32, or `lora.maxRank` where that is less",
      example: 32,
    }),
    sequenceLength: setting(z.number().int().min(16).max(1_048_576).default(1024), {
      doc: "Tokens of the longest training sequence that memory is reserved for.",
      allowed: "a whole number from 16",
      example: 1024,
    }),
    batchSize: setting(z.number().int().min(1).max(4096).default(1), {
      doc: "Sequences that one GPU trains on at once.",
      allowed: "a whole number from 1",
      example: 1,
    }),
  })
  .prefault({});

/** Options of vLLM that a setting of this project owns: given twice, one of them would silently lose. */
const OWNED_OPTIONS: Readonly<Record<string, string>> = {
  "--model": "model",
  "--served-model-name": "model",
  "--revision": "revision",
  "--host": "exposure",
  "--port": "port",
  "--tensor-parallel-size": "tensorParallel",
  "-tp": "tensorParallel",
  "--data-parallel-size": "replicas",
  "-dp": "replicas",
  "--pipeline-parallel-size": "pipelineParallel",
  "-pp": "pipelineParallel",
  "--gpu-memory-utilization": "split",
  "--kv-cache-memory-bytes": "split",
  "--enable-lora": "lora.enabled",
  "--max-loras": "lora.maxAdapters",
  "--max-lora-rank": "lora.maxRank",
  "--dtype": "serving.dtype",
  "--max-model-len": "serving.maxModelLen",
  "--trust-remote-code": "serving.trustRemoteCode",
  "--enforce-eager": "serving.enforceEager",
};

const extraArgument = z.string().superRefine((argument, context) => {
  const option = argument.split("=")[0] ?? argument;
  if (option === "--api-key") {
    context.addIssue(
      "holds the API key, which must never be in a process list: Tandem makes and hands over the key itself",
    );
  }
  const owner = OWNED_OPTIONS[option];
  if (owner !== undefined) context.addIssue(`is set by another setting: use \`${owner}\``);
});

/** Settings of vLLM. */
export const servingSettings = z
  .strictObject({
    dtype: setting(z.enum(["auto", "bfloat16", "float16", "float32"]).default("auto"), {
      doc: "Number format of weights and KV cache. `auto` takes the model's own.",
      allowed: "auto, bfloat16, float16 or float32",
      example: "auto",
    }),
    maxModelLen: setting(z.number().int().min(16).max(10_485_760).optional(), {
      doc: "Most tokens of one request, prompt and answer together.",
      allowed: "a whole number from 16 to what the model was made for",
      otherwise: "what the model was made for, or what its KV cache can hold if that is less",
      example: 8192,
    }),
    trustRemoteCode: setting(z.boolean().default(false), {
      doc: "Run Python code that comes with the model. Only for a model whose code you have read.",
      allowed: "true or false",
      example: false,
    }),
    enforceEager: setting(z.boolean().optional(), {
      doc: "Skip compiling and CUDA graphs: a faster start and less memory, slower answers.",
      allowed: "true or false",
      otherwise: "false on GPUs, true on the CPU",
      example: true,
    }),
    startupTimeoutSeconds: setting(z.number().int().min(10).max(86_400).optional(), {
      doc: "How long vLLM may take until it has answered its first request.",
      allowed: "a whole number of seconds from 10",
      otherwise: "worked out from the model's size and the machine",
      example: 900,
    }),
    extraArgs: setting(z.array(extraArgument).default([]), {
      doc: "More arguments for vLLM, as a list. Options that a setting here owns are refused.",
      allowed: "a list of vLLM's options that no other setting owns",
      example: ["--max-num-seqs=64"],
    }),
    extraEnv: setting(z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string()).default({}), {
      doc: "More environment variables for vLLM. Visible in the stack's state: no place for secrets.",
      allowed: "names with their values, as text",
      example: { VLLM_LOGGING_LEVEL: "DEBUG" },
    }),
  })
  .prefault({});
