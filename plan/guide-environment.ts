import type { Problem } from "./problem";

export interface GuideSettings {
  /** Raw settings, to be laid over those of the stack. */
  readonly raw: Record<string, unknown>;
  /** Names of the variables that were used. */
  readonly used: readonly string[];
  readonly problems: readonly Problem[];
}

/** What a variable's text means for its setting. */
export type Reading = { readonly value: string | number | boolean } | { readonly problem: "not understood" };

/** One variable of the original guide and the setting that took its place. */
export interface GuideVariable {
  readonly name: string;
  readonly setting: string;
  readonly allowed: string;
  readonly read: (text: string) => Reading;
}

const TRUE = ["1", "true", "yes", "on"];
const FALSE = ["0", "false", "no", "off"];

const NOT_UNDERSTOOD = { problem: "not understood" } as const;

const asText = (text: string): Reading => ({ value: text });
const asTruth = (text: string): Reading => {
  const word = text.toLowerCase();
  if (TRUE.includes(word)) return { value: true };
  return FALSE.includes(word) ? { value: false } : NOT_UNDERSTOOD;
};
const asNumber = (text: string): Reading => (Number.isFinite(Number(text)) ? { value: Number(text) } : NOT_UNDERSTOOD);
/** The guide's switch says which backend; off means the other one that it names. */
const asBackend = (text: string): Reading => {
  const truth = asTruth(text);
  return "value" in truth ? { value: truth.value === true ? "megatron-bridge" : "huggingface" } : truth;
};

/** Every variable of the guide, in its order. */
export const GUIDE_VARIABLES: readonly GuideVariable[] = [
  { name: "VLLM_MODEL", setting: "model", allowed: "a hub id or a path", read: asText },
  { name: "VLLM_TENSOR_PARALLEL_SIZE", setting: "tensorParallel", allowed: "a whole number", read: asNumber },
  { name: "VLLM_GPU_MEMORY_UTIL", setting: "split.serving", allowed: "a share from 0.05 to 0.95", read: asNumber },
  { name: "VLLM_ENABLE_LORA", setting: "lora.enabled", allowed: "true or false", read: asTruth },
  { name: "VLLM_MAX_LORAS", setting: "lora.maxAdapters", allowed: "a whole number", read: asNumber },
  { name: "MAX_LORAS", setting: "lora.maxAdapters", allowed: "a whole number", read: asNumber },
  { name: "VLLM_MAX_LORA_RANK", setting: "lora.maxRank", allowed: "a rank that vLLM has", read: asNumber },
  { name: "MAX_LORA_RANK", setting: "lora.maxRank", allowed: "a rank that vLLM has", read: asNumber },
  { name: "VLLM_DTYPE", setting: "serving.dtype", allowed: "auto, bfloat16, float16 or float32", read: asText },
  { name: "VLLM_TRUST_REMOTE_CODE", setting: "serving.trustRemoteCode", allowed: "true or false", read: asTruth },
  { name: "CUDA_VISIBLE_DEVICES", setting: "devices", allowed: "GPU indices, e.g. 0,1", read: asText },
  { name: "USE_MEGATRON_BRIDGE", setting: "training.backend", allowed: "true or false", read: asBackend },
  { name: "TRAINING_BACKEND", setting: "training.backend", allowed: "megatron-bridge or huggingface", read: asText },
];

/**
 * Settings from the variables of the original multi-GPU guide. Unset and empty ones are passed over; two that
 * contradict each other are a problem, not a guess.
 * @param env the environment; read only for the names of the guide
 */
export function settingsFromGuideEnvironment(env: Readonly<Record<string, string | undefined>>): GuideSettings {
  const raw: Record<string, unknown> = {};
  const problems: Problem[] = [];
  const givenBy = new Map<string, { variable: GuideVariable; value: unknown }>();
  for (const variable of GUIDE_VARIABLES) {
    const text = env[variable.name]?.trim();
    if (text === undefined || text === "") continue;
    const reading = variable.read(text);
    if (!("value" in reading)) {
      problems.push(notUnderstood(variable, text));
      continue;
    }
    const earlier = givenBy.get(variable.setting);
    if (earlier !== undefined && earlier.value !== reading.value) {
      problems.push(contradiction(earlier.variable, variable, env));
      continue;
    }
    givenBy.set(variable.setting, { variable, value: reading.value });
    place(raw, variable.setting, reading.value);
  }
  const used = GUIDE_VARIABLES.filter(({ name }) => (env[name]?.trim() ?? "") !== "").map(({ name }) => name);
  return { raw, used, problems };
}

function notUnderstood({ name, setting, allowed }: GuideVariable, value: string): Problem {
  return { setting: name, what: "is not understood", value, allowed, fix: `set \`${setting}\` instead` };
}

function contradiction(
  one: GuideVariable,
  other: GuideVariable,
  env: Readonly<Record<string, string | undefined>>,
): Problem {
  return {
    setting: one.setting,
    what: `${one.name} and ${other.name} contradict each other`,
    value: `${env[one.name]} and ${env[other.name]}`,
    fix: `unset one of them, or set \`${one.setting}\` instead`,
  };
}

function place(raw: Record<string, unknown>, setting: string, value: unknown): void {
  const [block, key] = setting.split(".");
  if (block === undefined) return;
  if (key === undefined) raw[block] = value;
  else raw[block] = { ...(raw[block] as Record<string, unknown> | undefined), [key]: value };
}
