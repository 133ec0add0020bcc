/** The dimensions of a decoder-only transformer, as far as memory and parallelism depend on them. */
export interface ModelShape {
  /** Hub id or path that the shape was read from. */
  readonly id: string;
  /** First entry of `architectures`, e.g. `LlamaForCausalLM`. */
  readonly architecture: string;
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Width of one feed-forward block; of one expert in a mixture of experts. */
  readonly intermediate: number;
  readonly vocab: number;
  /** Input and output embedding share one matrix. */
  readonly tiedEmbeddings: boolean;
  /** Experts of each layer; 1 in a dense model. */
  readonly experts: number;
  /** Experts that each token visits. */
  readonly expertsPerToken: number;
  /** RMSNorm over each query and key head (Qwen3). */
  readonly qkNorm: boolean;
  readonly attentionBias: boolean;
  readonly maxPositions: number;
  /** Number format of the stored weights. */
  readonly dtype: "bfloat16" | "float16" | "float32";
  /** Number of parameters, worked out from the dimensions. */
  readonly parameters: number;
}
