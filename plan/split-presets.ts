/** Serving's share of each GPU's memory by use case; figures of the original multi-GPU guide. */
export const SPLIT_PRESETS = { "inference-heavy": 0.7, balanced: 0.4, "training-heavy": 0.25 } as const;
export type SplitPreset = keyof typeof SPLIT_PRESETS;
