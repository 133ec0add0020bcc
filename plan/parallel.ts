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
  const { heads, kvHeads, intermediate, vocab } = shape;
  return [
    ...indivisible(heads, tensorParallel, `${heads} attention heads`),
    ...(tensorParallel % kvHeads === 0 ? [] : indivisible(kvHeads, tensorParallel, `${kvHeads} KV heads`)),
    ...indivisible(intermediate, tensorParallel, `a feed-forward width of ${intermediate}`),
    ...indivisible(paddedVocabulary, tensorParallel, `a vocabulary of ${vocab}`),
  ];
}

/**
 * What the trainer with Megatron (core 0.19.2) has against a tensor parallel size: Megatron would copy KV heads as vLLM does, but the
 * trainer's adapters are not made for that; the vocabulary is padded to a multiple of 128 times the size and never stands in the way.
 */
export function trainerObjections(
  { heads, kvHeads, intermediate }: ModelShape,
  tensorParallel: number,
): SizeObjections {
  return [
    ...indivisible(heads, tensorParallel, `${heads} attention heads`),
    ...indivisible(kvHeads, tensorParallel, `${kvHeads} KV heads`),
    ...indivisible(intermediate, tensorParallel, `a feed-forward width of ${intermediate}`),
  ];
}

function indivisible(dimension: number, tensorParallel: number, name: string): SizeObjections {
  return dimension % tensorParallel === 0 ? [] : [name];
}

/** Tensor parallel sizes from 1 to `most` that vLLM accepts for a model. */
export function legalVllmSizes(shape: ModelShape, most: number): number[] {
  return sizesUpTo(most).filter((size) => vllmObjections(shape, size).length === 0);
}

/** Tensor parallel sizes of the trainer with Megatron on a number of GPUs, which they have to divide as well. */
export function legalTrainerSizes(shape: ModelShape, gpus: number): number[] {
  return sizesUpTo(gpus).filter((size) => gpus % size === 0 && trainerObjections(shape, size).length === 0);
}

function sizesUpTo(most: number): number[] {
  return Array.from({ length: most }, (_, index) => index + 1);
}

/** Every KV head is on this many GPUs of one replica: more than once where there are fewer heads than GPUs. */
export function kvHeadsPerGpu({ kvHeads }: ModelShape, tensorParallel: number): number {
  return Math.max(1, Math.floor(kvHeads / tensorParallel));
}
