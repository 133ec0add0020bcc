import { makeShape, type ModelDimensions, type ModelShape } from "./model-shape";

const dense = { experts: 1, expertsPerToken: 1, qkNorm: false, attentionBias: false, dtype: "bfloat16" } as const;
const llama = {
  ...dense,
  architecture: "LlamaForCausalLM",
  headDim: 128,
  kvHeads: 8,
  vocab: 128_256,
  maxPositions: 131_072,
} as const;
const qwen3 = {
  ...dense,
  architecture: "Qwen3ForCausalLM",
  headDim: 128,
  kvHeads: 8,
  vocab: 151_936,
  maxPositions: 40_960,
  qkNorm: true,
} as const;

const llama1b = {
  ...llama,
  layers: 16,
  hidden: 2048,
  heads: 32,
  headDim: 64,
  intermediate: 8192,
  tiedEmbeddings: true,
};
const llama8b = { ...llama, layers: 32, hidden: 4096, heads: 32, intermediate: 14_336, tiedEmbeddings: false };
const llama70b = { ...llama, layers: 80, hidden: 8192, heads: 64, intermediate: 28_672, tiedEmbeddings: false };
const mixtral: ModelDimensions = {
  ...dense,
  architecture: "MixtralForCausalLM",
  layers: 32,
  hidden: 4096,
  heads: 32,
  kvHeads: 8,
  headDim: 128,
  intermediate: 14_336,
  vocab: 32_000,
  tiedEmbeddings: false,
  experts: 8,
  expertsPerToken: 2,
  maxPositions: 32_768,
};

/** From each model's published `config.json`; lets the common models be planned without a network. */
const DIMENSIONS: Readonly<Record<string, ModelDimensions>> = {
  "HuggingFaceTB/SmolLM2-135M-Instruct": {
    ...dense,
    architecture: "LlamaForCausalLM",
    layers: 30,
    hidden: 576,
    heads: 9,
    kvHeads: 3,
    headDim: 64,
    intermediate: 1536,
    vocab: 49_152,
    tiedEmbeddings: true,
    maxPositions: 8192,
  },
  "meta-llama/Llama-3.2-1B": llama1b,
  "meta-llama/Llama-3.2-1B-Instruct": llama1b,
  "meta-llama/Llama-3.1-8B": llama8b,
  "meta-llama/Llama-3.1-8B-Instruct": llama8b,
  "meta-llama/Llama-3.1-70B": llama70b,
  "meta-llama/Llama-3.1-70B-Instruct": llama70b,
  "Qwen/Qwen3-0.6B": { ...qwen3, layers: 28, hidden: 1024, heads: 16, intermediate: 3072, tiedEmbeddings: true },
  "Qwen/Qwen3-8B": { ...qwen3, layers: 36, hidden: 4096, heads: 32, intermediate: 12_288, tiedEmbeddings: false },
  "Qwen/Qwen3-32B": { ...qwen3, layers: 64, hidden: 5120, heads: 64, intermediate: 25_600, tiedEmbeddings: false },
  "mistralai/Mixtral-8x7B-v0.1": mixtral,
  "mistralai/Mixtral-8x7B-Instruct-v0.1": mixtral,
};

/** The built-in shapes, by hub id. */
export const builtInShapes: readonly ModelShape[] = Object.entries(DIMENSIONS).map(([id, dimensions]) =>
  makeShape(id, dimensions),
);

/** The shape of a well-known model; undefined for any other. Hub ids are compared without regard to case, as the hub does. */
export function builtInShape(id: string): ModelShape | undefined {
  return builtInShapes.find((shape) => shape.id.toLowerCase() === id.toLowerCase());
}
