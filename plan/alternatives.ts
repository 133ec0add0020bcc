import { ADAPTER_RANKS } from "./adapter-ranks";
import type { Attempt } from "./gpu-plan";
import { findGpuType, gpuTypes, hypotheticalHost } from "./gpu-types";
import type { Alternative, Plan, PlanRequest } from "./plan";
import type { Settings } from "./settings";
import { resolveSplit } from "./split";

type Change = Readonly<Record<string, unknown>>;
type Attempter = (request: PlanRequest) => Attempt;

const MOST_ALTERNATIVES = 3;

/**
 * The nearest settings with which the same model works. Each family of changes is tried from the smallest change on, and
 * its first success is kept; a change is only offered after it was planned.
 */
export function findAlternatives(request: PlanRequest, attempt: Attempter): Alternative[] {
  const { gpuType } = request.settings;
  // What a name that the catalogue lacks stands for, nobody knows.
  if (gpuType !== undefined && findGpuType(gpuType) === undefined) return [];
  const found: Alternative[] = [];
  for (const family of families(request)) {
    if (found.length === MOST_ALTERNATIVES) break;
    for (const change of family) {
      const changed = applyChange(request, change);
      const { plan } = attempt(changed);
      if (plan === undefined) continue;
      found.push({ change, verdict: plan.verdict, text: describe(change, plan) });
      break;
    }
  }
  return found;
}

/** Families of changes, the least intrusive first; within a family the smallest change first. */
function families({ settings, hosts }: PlanRequest): Change[][] {
  const { lora, serving, split, training } = settings;
  const isPlanned =
    settings.gpuType !== undefined &&
    hosts.every((host) => host.gpus.every((gpu) => gpu.uuid.startsWith("GPU-planned-")));
  const count = hosts[0]?.gpus.length ?? 0;
  const shares = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95].filter((share) => share > split.serving);
  const smallerShares = [0.35, 0.3, 0.25, 0.2, 0.15, 0.1].filter((share) => share < split.serving);
  const lengths = halvings(serving.maxModelLen ?? 0, 512);
  const fewer = halvings(lora.maxAdapters, 1);
  const ranks = ADAPTER_RANKS.filter(
    (rank) => rank < lora.maxRank && (training.backend === "off" || rank >= (training.rank ?? 1)),
  ).toReversed();
  return [
    settings.tensorParallel === "auto" && settings.replicas === "auto"
      ? []
      : [{ tensorParallel: "auto", replicas: "auto" }],
    count === 0 && settings.gpus !== 0 ? [{ gpus: 0 }] : [],
    settings.gpus !== "all" || settings.devices !== undefined ? [{ gpus: "all", devices: undefined }] : [],
    lengths.map((length) => ({ "serving.maxModelLen": length })),
    shares.map((share) => ({ split: { serving: share } })),
    training.backend === "off" || training.tensorParallel === "auto" ? [] : [{ "training.tensorParallel": "auto" }],
    training.backend === "off" ? [] : smallerShares.map((share) => ({ split: { serving: share } })),
    training.backend === "off"
      ? []
      : halvings(training.sequenceLength, 128).map((length) => ({
          "training.sequenceLength": length,
          "training.batchSize": 1,
        })),
    lora.enabled ? fewer.map((maxAdapters) => ({ "lora.maxAdapters": maxAdapters })) : [],
    lora.enabled ? ranks.map((maxRank) => ({ "lora.maxRank": maxRank })) : [],
    serving.enforceEager === true ? [] : [{ "serving.enforceEager": true }],
    isPlanned ? [2, 4, 8].filter((gpus) => gpus > count).map((gpus) => ({ gpus })) : [],
    isPlanned ? largerTypes(settings).map((gpuType) => ({ gpuType })) : [],
    shares.map((share) => ({ split: { serving: share }, "serving.enforceEager": true, "lora.maxAdapters": 1 })),
    training.backend === "off" ? [] : [{ "training.backend": "off" }],
    isPlanned ? largerTypes(settings).map((gpuType) => ({ gpuType, gpus: 8, split: { serving: 0.9 } })) : [],
  ];
}

function halvings(from: number, least: number): number[] {
  const values: number[] = [];
  for (let value = Math.floor(from / 2); value >= least; value = Math.floor(value / 2)) values.push(value);
  return values;
}

function largerTypes({ gpuType }: Settings): string[] {
  const own = gpuTypes.find(({ name }) => name === gpuType)?.memoryGiB ?? 0;
  return gpuTypes
    .filter(({ memoryGiB }) => memoryGiB > own + 1)
    .toSorted((left, right) => left.memoryGiB - right.memoryGiB)
    .map(({ name }) => name);
}

function applyChange(request: PlanRequest, change: Change): PlanRequest {
  const settings = Object.entries(change).reduce<Settings>(
    (changed, [name, value]) => withSetting(changed, name, value),
    request.settings,
  );
  const isOther = change["gpus"] !== undefined || change["gpuType"] !== undefined;
  const isPlanned = request.hosts.some((host) => host.gpus.some((gpu) => gpu.uuid.startsWith("GPU-planned-")));
  if (!isOther || !isPlanned || settings.gpuType === undefined || settings.gpus === 0) return { ...request, settings };
  const gpus = settings.gpus === "all" ? (request.hosts[0]?.gpus.length ?? 1) : settings.gpus;
  return { ...request, settings, hosts: [hypotheticalHost({ gpus, gpuType: settings.gpuType })] };
}

/** A copy of valid settings with one of them changed; the values come from `families`, which makes only allowed ones. */
function withSetting(settings: Settings, name: string, value: unknown): Settings {
  if (name === "split") return { ...settings, split: resolveSplit(value as { serving: number }) };
  const [block, key] = name.split(".");
  if (block === undefined || key === undefined) return { ...settings, [name]: value };
  const present = settings[block as "lora" | "serving" | "training"];
  return { ...settings, [block]: { ...present, [key]: value } };
}

function describe(change: Change, plan: Plan): string {
  const settings = Object.entries(change)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`);
  const layout = plan.device === "cpu" ? "on the CPU" : `tensor parallel ${plan.tensorParallel} x ${plan.replicas}`;
  return `${settings.join(", ")} → ${plan.verdict}, ${layout}, KV cache of ${plan.kvCacheTokens} tokens`;
}
