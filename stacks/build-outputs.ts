import type { Prepared, PreparedHost } from "../bootstrap/runner/prepare";
import type { ProofResult } from "../bootstrap/runner/proof";
import { reachHost, type Reach } from "../bootstrap/runner/reach";
import { OUTPUTS_VERSION, type Outputs } from "./outputs";

export interface OutputParts {
  readonly prepared: Prepared;
  readonly servedModelName: string;
  readonly apiKey: string;
  /** By name; the default one among them. */
  readonly apiKeys?: Readonly<Record<string, string>>;
  /** One for each host, in the order of the settings. */
  readonly proven: readonly ProofResult[];
  /** When the stack took its first host, ISO 8601: fixed once, so that a second `up` changes nothing. */
  readonly startedAt: string;
  /** Only in a cluster, whose pods stand in the hosts' place: all are reached in the same way. */
  readonly cluster?: { readonly reach: Reach; readonly address: string; readonly expiresAt?: Date };
}

/** One host with what was proven on it. */
interface ProvenHost extends PreparedHost {
  /** Its name where there are several; what belongs to the only host needs none. */
  readonly label?: string;
  readonly proven: ProofResult;
}

/** The only place where outputs are put together. */
export function buildOutputs(parts: OutputParts): Outputs {
  const { prepared, apiKey, startedAt } = parts;
  const { settings } = prepared;
  const hosts = provenHosts(parts);
  const first = hosts[0];
  if (first === undefined) throw new Error("a stack without hosts has no outputs");
  const { server, fineTuning, status, connect } = parts.cluster?.reach ?? reachHost(prepared, 0);
  const baseUrl = `${server}/v1`;
  return {
    version: OUTPUTS_VERSION,
    endpoints: {
      baseUrl,
      chat: `${baseUrl}/chat/completions`,
      completions: `${baseUrl}/completions`,
      models: `${baseUrl}/models`,
      metrics: `${server}/metrics`,
      fineTuning,
      status,
      connect,
      certificateFingerprint: first.proven.proof.gateway?.fingerprint,
    },
    apiKey,
    apiKeys: { ...parts.apiKeys },
    health: {
      status: healthOf(hosts.flatMap(({ proven }) => proven.checks)),
      url: `${server}/health`,
      provenAt: hosts.map(({ proven }) => proven.provenAt).toSorted()[0] ?? "",
      checks: hosts.flatMap(({ label, proven }) =>
        proven.checks.map((check) => (label === undefined ? check : { ...check, name: `${label}: ${check.name}` })),
      ),
    },
    plan: plannedPart(hosts, first, parts.servedModelName),
    measured: measuredPart(hosts, first),
    hosts: hosts.map((host, index) => hostPart(parts, host, index)),
    cost: {
      pricePerHourUsd: settings.target === "local" ? undefined : first.plan.cost.pricePerHourUsd,
      startedAt,
      expiresAt:
        (prepared.cloud?.mark ?? parts.cluster)?.expiresAt?.toISOString() ??
        endOf(startedAt, first.plan.cost.ttlSeconds),
      capUsd: first.plan.cost.capUsd,
    },
  };
}

/** When a stack on hosts of the user's ends, ISO 8601; undefined for one that lives until it is destroyed. */
function endOf(startedAt: string, ttlSeconds: number | undefined): string | undefined {
  return ttlSeconds === undefined ? undefined : new Date(Date.parse(startedAt) + ttlSeconds * 1000).toISOString();
}

function provenHosts({ prepared: { hosts }, proven }: OutputParts): ProvenHost[] {
  return hosts.flatMap((prepared, index) => {
    const result = proven[index];
    if (result === undefined) return [];
    return [{ ...prepared, proven: result, label: hosts.length > 1 ? prepared.host.name : undefined }];
  });
}

/** The worst check decides. */
export function healthOf(checks: ProofResult["checks"]): Outputs["health"]["status"] {
  if (checks.some((check) => check.status === "fail")) return "failed";
  return checks.some((check) => check.status === "warn") ? "degraded" : "healthy";
}

function plannedPart(hosts: readonly ProvenHost[], { plan }: ProvenHost, servedModelName: string): Outputs["plan"] {
  return {
    model: plan.model,
    servedModelName,
    device: plan.device,
    gpus: [...plan.gpuIndices],
    tensorParallel: plan.tensorParallel,
    replicas: sum(hosts.map((host) => host.plan.replicas)),
    split: plan.split,
    kvCacheTokens: plan.kvCacheTokens,
    perGpu: hosts.flatMap((host) =>
      host.plan.perGpu.map((ledger) => ({ host: host.label, ...ledger, parts: [...ledger.parts] })),
    ),
  };
}

function measuredPart(hosts: readonly ProvenHost[], { proven: { proof } }: ProvenHost): Outputs["measured"] {
  const counted = hosts.flatMap((host) => host.proven.proof.replicas ?? []);
  const speeds = hosts.flatMap((host) => host.proven.proof.tokensPerSecond ?? []);
  return {
    tensorParallel: proof.tensorParallel,
    replicas: counted.length === hosts.length ? sum(counted) : undefined,
    kvCacheTokens: proof.kvCacheTokens,
    perGpu: hosts.flatMap(({ label, plan, proven }) =>
      proven.proof.gpus.map((gpu) => ({
        host: label,
        index: gpu.index,
        servingGiB: gpu.servingGiB,
        trainingGiB: gpu.trainingGiB ?? 0,
        freeGiB: gpu.freeGiB,
        plannedServingGiB: plan.perGpu.find((ledger) => ledger.index === gpu.index)?.servingGiB ?? 0,
      })),
    ),
    tokensPerSecond: speeds.length === 0 ? undefined : sum(speeds),
  };
}

function hostPart(
  { prepared, cluster }: OutputParts,
  { host, plan, proven }: ProvenHost,
  index: number,
): Outputs["hosts"][number] {
  const { facts, target } = host;
  const { server, fineTuning, connect } = cluster?.reach ?? reachHost(prepared, index);
  return {
    name: target.kind === "local" ? facts.name : host.name,
    address: cluster?.address ?? (target.kind === "local" ? "127.0.0.1" : target.host),
    target: prepared.settings.target,
    baseUrl: `${server}/v1`,
    fineTuning,
    connect,
    health: healthOf(proven.checks),
    tensorParallel: plan.tensorParallel,
    replicas: plan.replicas,
    driver: facts.driverVersion,
    gpus: facts.gpus.map(({ index, model, memoryGiB }) => ({ index, model, memoryGiB, link: facts.gpuLink })),
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
