import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import * as path from "node:path";

/** Version that the stand-in says it is. */
export const STAND_IN_VERSION = "0.32.0";

/**
 * Writes into `folder` what a host without internet would be given: `vllm.tar`, an archive of a site-packages folder for
 * `runtime: archive`, and `model/`, a model of SmolLM2's shape whose weights are noise.
 */
export function writeStandIn(folder: string): void {
  const site = path.join(folder, "site-packages");
  const info = path.join(site, `vllm-${STAND_IN_VERSION}.dist-info`);
  mkdirSync(info, { recursive: true });
  writeFileSync(path.join(info, "METADATA"), `Metadata-Version: 2.1\nName: vllm\nVersion: ${STAND_IN_VERSION}\n`);
  execFileSync("cp", ["-r", path.join(__dirname, "vllm"), site]);
  execFileSync("tar", ["-C", folder, "-cf", path.join(folder, "vllm.tar"), "site-packages"]);
  const model = path.join(folder, "model");
  mkdirSync(model);
  writeFileSync(path.join(model, "config.json"), JSON.stringify(SMOL_CONFIG));
  writeFileSync(path.join(model, "tokenizer.json"), "{}");
  writeFileSync(path.join(model, "model.safetensors"), Buffer.alloc(1 << 20, 7));
}

/** The published config.json of SmolLM2-135M-Instruct, as far as its shape goes. */
const SMOL_CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 576,
  intermediate_size: 1536,
  num_hidden_layers: 30,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  vocab_size: 49152,
  max_position_embeddings: 8192,
  tie_word_embeddings: true,
  torch_dtype: "bfloat16",
};
