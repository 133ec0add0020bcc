import { z } from "zod";
import { makeShape, type ModelDimensions, type ModelShape } from "./model-shape";
import type { Problem } from "./problem";

const size = z.number().int().positive();

/** The keys of a `config.json` that dimensions are read from; families name some of them differently. */
const configSchema = z.looseObject({
  architectures: z.array(z.string()).min(1),
  model_type: z.string().optional(),
  num_hidden_layers: size,
  hidden_size: size,
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  intermediate_size: size,
  moe_intermediate_size: size.nullish(),
  vocab_size: size,
  tie_word_embeddings: z.boolean().optional(),
  num_local_experts: size.nullish(),
  num_experts: size.nullish(),
  num_experts_per_tok: size.nullish(),
  attention_bias: z.boolean().nullish(),
  max_position_embeddings: size,
  torch_dtype: z.string().nullish(),
  dtype: z.string().nullish(),
});
type Config = z.infer<typeof configSchema>;

/** Architectures whose tied embeddings are the default where `config.json` says nothing: the library's own default. */
const TIED_BY_DEFAULT = /^(Gemma|GPT2)/;

/**
 * Reads a model's dimensions from its parsed `config.json`.
 * @returns the shape, or the one problem that says why it can't be planned
 */
export function shapeFromConfig(config: unknown, id: string): ModelShape | Problem {
  const parsed = configSchema.safeParse(textConfig(config));
  if (!parsed.success) return notAModel(id, parsed.error);
  if ("kv_lora_rank" in parsed.data) {
    return {
      setting: "model",
      what: `${id} uses multi-head latent attention, whose memory the planner cannot work out`,
      allowed: "models with grouped-query or multi-head attention",
      fix: "choose another model",
    };
  }
  return makeShape(id, dimensionsOf(parsed.data));
}

/** Models that also see or hear keep the language model's dimensions in a block of their own. */
function textConfig(config: unknown): unknown {
  if (typeof config !== "object" || config === null || !("text_config" in config)) return config;
  const { text_config: text, ...outer } = config;
  return typeof text === "object" && text !== null
    ? { ...outer, ...text, architectures: (outer as Config).architectures }
    : config;
}

function dimensionsOf(config: Config): ModelDimensions {
  const architecture = config.architectures[0] ?? "unknown";
  const experts = config.num_local_experts ?? config.num_experts ?? 1;
  return {
    architecture,
    layers: config.num_hidden_layers,
    hidden: config.hidden_size,
    heads: config.num_attention_heads,
    kvHeads: config.num_key_value_heads ?? config.num_attention_heads,
    headDim: config.head_dim ?? Math.floor(config.hidden_size / config.num_attention_heads),
    intermediate: experts > 1 ? (config.moe_intermediate_size ?? config.intermediate_size) : config.intermediate_size,
    vocab: config.vocab_size,
    tiedEmbeddings: config.tie_word_embeddings ?? TIED_BY_DEFAULT.test(architecture),
    experts,
    expertsPerToken: experts > 1 ? (config.num_experts_per_tok ?? 1) : 1,
    qkNorm: architecture.startsWith("Qwen3"),
    attentionBias: config.attention_bias ?? architecture.startsWith("Qwen2"),
    maxPositions: config.max_position_embeddings,
    dtype: dtypeOf(config.dtype ?? config.torch_dtype ?? "float32"),
  };
}

function dtypeOf(name: string): ModelDimensions["dtype"] {
  if (name === "float16" || name === "float32") return name;
  return "bfloat16";
}

function notAModel(id: string, error: z.ZodError): Problem {
  const missing = [...new Set(error.issues.map((issue) => issue.path.join(".")))].filter((key) => key !== "");
  return {
    setting: "model",
    what: `the config.json is not one of a language model${missing.length > 0 ? `: ${missing.join(", ")} missing or not a number` : ""}`,
    value: id,
    allowed: "a decoder-only transformer in Hugging Face's format",
    fix: "name another model, or the directory that holds the model's config.json",
  };
}
