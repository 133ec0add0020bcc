/** The dimensions of a decoder-only transformer, as far as memory and parallelism depend on them. */
export interface ModelDimensions {
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
  /** Bias on the query, key and value projections (Qwen2). */
  readonly attentionBias: boolean;
  readonly maxPositions: number;
  /** Number format of the stored weights. */
  readonly dtype: "bfloat16" | "float16" | "float32";
}

export interface ModelShape extends ModelDimensions {
  /** Hub id or path that the shape was read from. */
  readonly id: string;
  /** Number of parameters, worked out from the dimensions. */
  readonly parameters: number;
}

/**
 * Parameters of a Llama-like transformer: embeddings, grouped-query attention, gated feed-forward (three matrices) for each
 * expert, a router where there are several, RMSNorms. Equals the published counts of every built-in shape to the last digit.
 */
export function countParameters(model: ModelDimensions): number {
  const { hidden, vocab } = model;
  const embeddings = vocab * hidden * (model.tiedEmbeddings ? 1 : 2);
  return embeddings + hidden + model.layers * layerParameters(model);
}

function layerParameters({ hidden, intermediate, experts, ...model }: ModelDimensions): number {
  const queryWidth = model.heads * model.headDim;
  const kvWidth = model.kvHeads * model.headDim;
  const attention = hidden * (queryWidth + 2 * kvWidth) + queryWidth * hidden;
  const biases = model.attentionBias ? queryWidth + 2 * kvWidth : 0;
  const norms = 2 * hidden + (model.qkNorm ? 2 * model.headDim : 0);
  const router = experts > 1 ? hidden * experts : 0;
  return attention + biases + norms + router + experts * 3 * hidden * intermediate;
}

/** A shape with its parameters counted. */
export function makeShape(id: string, dimensions: ModelDimensions): ModelShape {
  return { id, ...dimensions, parameters: countParameters(dimensions) };
}
