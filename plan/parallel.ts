import type { ModelShape } from "./model-shape";

/** vLLM pads the vocabulary to a multiple of this before it is divided (`DEFAULT_VOCAB_PADDING_SIZE`, 0.26 to 0.33). */
const VLLM_VOCABULARY_PADDING = 64;

/** Why a tensor parallel size is impossible for a model; empty when it works. */
export type SizeObjections = readonly string[];

/**
 * What vLLM has against a tensor parallel size. Its rules (read in the sources of 0.32.0): attention heads and the feed-forward
 * width must be divisible; KV heads are divided, or copied when there are fewer than GPUs, and one must divide the other; the padded vocabulary must be divisible.
 */
export function vllmObjections(shape: ModelShape, tensorParallel: number): SizeObjections {
  const paddedVocabulary = Math.ceil(shape.vocab / VLLM_VOCABULARY_PADDING) * VLLM_VOCABULARY_PADDING;
  return [
    ...commonObjections(shape, tensorParallel),
    ...(paddedVocabulary % tensorParallel === 0 ? [] : [`a vocabulary of ${shape.vocab}`]),
  ];
}

/**
 * What Megatron (core 0.19.2) has against a tensor parallel size: the same as vLLM, except that the vocabulary is padded
 * to a multiple of 128 times the size and so never stands in the way.
 */
export function megatronObjections(shape: ModelShape, tensorParallel: number): SizeObjections {
  return commonObjections(shape, tensorParallel);
}

function commonObjections(shape: ModelShape, tensorParallel: number): SizeObjections {
  const { heads, kvHeads, intermediate } = shape;
  return [
    ...(heads % tensorParallel === 0 ? [] : [`${heads} attention heads`]),
    ...(kvHeads % tensorParallel === 0 || tensorParallel % kvHeads === 0 ? [] : [`${kvHeads} KV heads`]),
    ...(intermediate % tensorParallel === 0 ? [] : [`a feed-forward width of ${intermediate}`]),
  ];
}

/** Tensor parallel sizes from 1 to `most` that vLLM accepts for a model. */
export function legalVllmSizes(shape: ModelShape, most: number): number[] {
  return sizesUpTo(most).filter((size) => vllmObjections(shape, size).length === 0);
}

/** Tensor parallel sizes from 1 to `most` that Megatron accepts for a model. */
export function legalMegatronSizes(shape: ModelShape, most: number): number[] {
  return sizesUpTo(most).filter((size) => megatronObjections(shape, size).length === 0);
}

function sizesUpTo(most: number): number[] {
  return Array.from({ length: most }, (_, index) => index + 1);
}

/** Every KV head is on this many GPUs of one replica: more than once where there are fewer heads than GPUs. */
export function kvHeadsPerGpu({ kvHeads }: ModelShape, tensorParallel: number): number {
  return Math.max(1, Math.floor(kvHeads / tensorParallel));
}
