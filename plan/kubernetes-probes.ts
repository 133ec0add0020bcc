import type { Plan } from "./plan";

const PYTHON_PROBE = ["python3", "/opt/tandem/bin/probe.py"];
const STARTUP_PERIOD_SECONDS = 10;
/** One token on a busy engine; the first one compiles kernels, and the start-up probe asks for that. */
const TOKEN_SECONDS = 30;
/** An engine that has requests and makes no token for so long hangs: the longest step seen, a full prefill, takes seconds. */
export const HUNG_AFTER_SECONDS = 180;
/** An engine that hangs ends no request, however long it is waited for. */
const HUNG_STOP_SECONDS = 30;
/** One that never came up has none; and Python that is still importing, as a container's first process, hears no request to end. */
const STARTING_STOP_SECONDS = 10;

interface Probes {
  readonly startupProbe: object;
  readonly readinessProbe: object;
  readonly livenessProbe: object;
}

/**
 * vLLM's probes. Start-up: as many tries as the plan's budget, which is worked out from the bytes to read and the slowest disk, so that
 * no slow load is killed. Readiness: a generated token, or tokens made for others since the last look. Liveness: an engine that
 * has work and makes no token, which /health does not notice.
 * @param hungStopSeconds for what else ends with a hung engine
 */
export function servingProbes(
  { startup, servingPort }: Pick<Plan, "startup" | "servingPort">,
  hungStopSeconds = HUNG_STOP_SECONDS,
): Probes {
  const command = (what: string, ...more: string[]) => ({
    exec: { command: [...PYTHON_PROBE, what, String(servingPort), ...more] },
  });
  return {
    startupProbe: {
      ...command("token", String(TOKEN_SECONDS)),
      periodSeconds: STARTUP_PERIOD_SECONDS,
      timeoutSeconds: TOKEN_SECONDS + 10,
      failureThreshold: failures(startup.timeoutSeconds),
      terminationGracePeriodSeconds: STARTING_STOP_SECONDS,
    },
    readinessProbe: {
      ...command("token", String(TOKEN_SECONDS)),
      periodSeconds: 15,
      timeoutSeconds: TOKEN_SECONDS + 10,
      failureThreshold: 3,
    },
    livenessProbe: {
      ...command("alive", String(HUNG_AFTER_SECONDS)),
      periodSeconds: 30,
      timeoutSeconds: 20,
      failureThreshold: 3,
      terminationGracePeriodSeconds: hungStopSeconds,
    },
  };
}

/** The trainer starts after vLLM and then loads the same weights: twice the budget. */
export function trainingProbes({ startup, training }: Pick<Plan, "startup" | "training">): Probes {
  const exec = { exec: { command: [...PYTHON_PROBE, "health", String(training.port)] } };
  return {
    startupProbe: {
      ...exec,
      periodSeconds: STARTUP_PERIOD_SECONDS,
      timeoutSeconds: 10,
      failureThreshold: failures(2 * startup.timeoutSeconds),
    },
    readinessProbe: { ...exec, periodSeconds: 15, timeoutSeconds: 10, failureThreshold: 3 },
    livenessProbe: { ...exec, periodSeconds: 30, timeoutSeconds: 20, failureThreshold: 6 },
  };
}

function failures(budgetSeconds: number): number {
  return Math.max(1, Math.ceil(budgetSeconds / STARTUP_PERIOD_SECONDS));
}
