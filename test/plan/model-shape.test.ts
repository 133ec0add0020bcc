import { describe, expect, it } from "vitest";
import { builtInShape, builtInShapes, shapeFromConfig } from "../../plan";
import { countParameters } from "../../plan/model-shape";

/** Parameters as the hub shows them for each model's safetensors. */
const published: Readonly<Record<string, number>> = {
  "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
  "meta-llama/Llama-3.2-1B": 1_235_814_400,
  "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
  "meta-llama/Llama-3.1-8B": 8_030_261_248,
  "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
  "meta-llama/Llama-3.1-70B": 70_553_706_496,
  "meta-llama/Llama-3.1-70B-Instruct": 70_553_706_496,
  // The hub counts the tied output matrix of this one a second time (751 632 384).
  "Qwen/Qwen3-0.6B": 751_632_384 - 151_936 * 1024,
  "Qwen/Qwen3-8B": 8_190_735_360,
  "Qwen/Qwen3-32B": 32_762_123_264,
  "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
  "mistralai/Mixtral-8x7B-Instruct-v0.1": 46_702_792_704,
};

/** SmolLM2's own config.json, shortened to what describes the model. */
const smolConfig = {
  architectures: ["LlamaForCausalLM"],
  attention_bias: false,
  hidden_size: 576,
  intermediate_size: 1536,
  max_position_embeddings: 8192,
  model_type: "llama",
  num_attention_heads: 9,
  num_hidden_layers: 30,
  num_key_value_heads: 3,
  tie_word_embeddings: true,
  torch_dtype: "bfloat16",
  vocab_size: 49152,
};

describe("model shapes", () => {
  it.each(builtInShapes.map((shape) => [shape.id, shape] as const))(
    "count the parameters of %s as published",
    (id, shape) => {
      expect(shape.parameters).toBe(published[id]);
    },
  );

  it("are read from config.json as they are built in", () => {
    expect(shapeFromConfig(smolConfig, "HuggingFaceTB/SmolLM2-135M-Instruct")).toEqual(
      builtInShape("huggingfacetb/smollm2-135m-instruct"),
    );
  });

  it("take the head size from config.json where it is not hidden / heads", () => {
    const config = {
      ...smolConfig,
      architectures: ["Qwen3ForCausalLM"],
      head_dim: 128,
      hidden_size: 1024,
      intermediate_size: 3072,
      num_hidden_layers: 28,
      num_attention_heads: 16,
      num_key_value_heads: 8,
      vocab_size: 151936,
      max_position_embeddings: 40960,
    };
    expect(shapeFromConfig(config, "Qwen/Qwen3-0.6B")).toEqual(builtInShape("Qwen/Qwen3-0.6B"));
  });

  it("know the experts of a mixture, whose width has a key of its own", () => {
    const config = {
      ...smolConfig,
      architectures: ["Qwen3MoeForCausalLM"],
      num_experts: 128,
      num_experts_per_tok: 8,
      moe_intermediate_size: 768,
    };
    expect(shapeFromConfig(config, "a/moe")).toMatchObject({ experts: 128, expertsPerToken: 8, intermediate: 768 });
  });

  it("count one KV head for each head where config.json names none, and biases where there are some", () => {
    const { num_key_value_heads: _, ...config } = smolConfig;
    expect(shapeFromConfig(config, "a/b")).toMatchObject({ kvHeads: 9 });
    const plain = shapeFromConfig(smolConfig, "a/b");
    const biased = shapeFromConfig({ ...smolConfig, attention_bias: true }, "a/b");
    if (!("layers" in plain) || !("layers" in biased)) throw new Error("the shapes could not be read");
    expect(countParameters(biased) - countParameters(plain)).toBe(30 * (9 + 2 * 3) * 64);
  });

  it("say what is missing when a file is no language model's", () => {
    expect(shapeFromConfig({ architectures: ["ViTModel"], hidden_size: 768 }, "/models/vit")).toMatchObject({
      setting: "model",
      value: "/models/vit",
      what: expect.stringContaining("num_hidden_layers"),
    });
    expect(shapeFromConfig("not even an object", "x")).toMatchObject({ setting: "model" });
  });
});
