import type { ModelShape } from "./model-shape";
import type { Plan } from "./plan";

export interface StartupRequest {
  readonly shape: ModelShape;
  readonly device: Plan["device"];
  readonly enforceEager: boolean;
  readonly workersPerReplica: number;
  readonly replicas: number;
  /** The user's own limit. */
  readonly timeoutSeconds?: number;
}

/**
 * Start to the first answer, fitted on: 127 s eager and 164-184 s compiled on 2 x H100 (vLLM 0.26.0), 45-62 s on 2 cores (vLLM for CPU 0.32.0),
 * November 2026. Those read no weights or small ones from a warm disk.
 */
const SECONDS = { cuda: 100, cpu: 45, compile: 60, perWorker: 8, cpuPerReplica: 20 } as const;
/** A network disk, or a disk that is read for the first time. */
const SLOW_DISK_GIB_PER_SECOND = 0.2;
/** A busy machine took three times as long as a quiet one; the limit is there for what never ends, so it is generous. */
const PATIENCE = 5;
const LEAST_TIMEOUT_SECONDS = 600;

/** How long vLLM is expected to take until it answers, and when to give up. */
export function startupBudget(request: StartupRequest): Plan["startup"] {
  const weightsGiB = (request.shape.parameters * 2) / 2 ** 30;
  const loading = weightsGiB / SLOW_DISK_GIB_PER_SECOND;
  const working =
    request.device === "cpu"
      ? SECONDS.cpu + SECONDS.cpuPerReplica * (request.replicas - 1)
      : SECONDS.cuda +
        (request.enforceEager ? 0 : SECONDS.compile) +
        SECONDS.perWorker * (request.workersPerReplica * request.replicas - 1);
  const expectedSeconds = Math.round(working + loading);
  const timeoutSeconds = request.timeoutSeconds ?? Math.max(LEAST_TIMEOUT_SECONDS, PATIENCE * expectedSeconds);
  return { expectedSeconds, timeoutSeconds };
}

const SECONDS_PER_UNIT = { m: 60, h: 3600, d: 86_400 } as const;

/** Seconds of a duration as a setting writes it: `90m`, `4h`, `2d`. Undefined for anything else. */
export function durationSeconds(text: string): number | undefined {
  const match = /^([1-9]\d*)([mhd])$/.exec(text);
  if (match === null) return undefined;
  return Number(match[1]) * SECONDS_PER_UNIT[match[2] as keyof typeof SECONDS_PER_UNIT];
}
