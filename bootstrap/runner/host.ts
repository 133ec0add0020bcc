import { z } from "zod";
import type { HostFacts } from "../../plan/facts";
import { callTarget, type HostAnswer } from "./transport";
import { STEP_NAMES, type HostTarget, type StepCheck } from "./request";

/** Name of a host that is given up: a step that is taken back there succeeds without asking it. Set by `tandem destroy --abandon`. */
export const ABANDON_VARIABLE = "TANDEM_ABANDON";

/**
 * Names of hosts, with blanks between, on which everything was taken back already: a step that is taken back there succeeds without asking
 * it, for the state may hold an address that the host no longer has. Set by `tandem destroy`.
 */
export const SWEPT_VARIABLE = "TANDEM_SWEPT";

const stepCheckSchema = z.object({
  step: z.enum(STEP_NAMES),
  holds: z.boolean(),
  reason: z.string().optional(),
  token: z.string(),
});

const gpuFactsSchema = z.object({
  index: z.int().nonnegative(),
  uuid: z.string(),
  model: z.string(),
  memoryGiB: z.number().positive(),
  memoryUsedGiB: z.number().nonnegative(),
  computeCapability: z.string().optional(),
});

const hostFactsSchema = z.object({
  name: z.string(),
  architecture: z.string(),
  operatingSystem: z.object({ id: z.string(), version: z.string(), glibc: z.string().optional() }),
  cpuCores: z.int().positive(),
  memoryTotalGiB: z.number().positive(),
  memoryAvailableGiB: z.number().nonnegative(),
  cache: z.object({ path: z.string(), freeGiB: z.number().nonnegative() }),
  stacks: z.object({ path: z.string(), freeGiB: z.number().nonnegative() }).optional(),
  sharedMemoryGiB: z.number().nonnegative(),
  gpus: z.array(gpuFactsSchema),
  busGpus: z.array(z.object({ address: z.string(), deviceId: z.string(), driver: z.string().optional() })).optional(),
  nvSwitches: z.int().nonnegative().optional(),
  secureBoot: z.boolean().optional(),
  gpuLink: z.enum(["nvlink", "pcie-switch", "pcie-host", "pcie-socket", "none", "unknown"]),
  peerAccess: z.boolean().optional(),
  driverVersion: z.string().optional(),
  cudaVersion: z.string().optional(),
  isRoot: z.boolean(),
  serviceManager: z.enum(["systemd-system", "systemd-user", "supervisor"]),
  pythons: z.array(z.object({ path: z.string(), version: z.string() })),
  hasCCompiler: z.boolean(),
  portHolder: z.object({ processId: z.int().optional(), command: z.string().optional() }).optional(),
  environment: z.record(z.string(), z.string()),
});

/**
 * Asks a host what it is; changes nothing.
 * @param portOfInterest the port whose holder is wanted
 * @throws Error when the host does not answer within 20 s or not in the agreed form
 */
export async function readFacts(target: HostTarget, portOfInterest: number): Promise<HostFacts> {
  const answer = await callTarget(target, {
    script: "facts.sh",
    argv: [],
    environment: { TANDEM_PORT: String(portOfInterest) },
    timeoutSeconds: 20,
  });
  if (answer.code !== 0) throw new Error(`can't read the facts of ${describeTarget(target)}: ${lastLine(answer)}`);
  return hostFactsSchema.parse(JSON.parse(answer.stdout)) satisfies HostFacts;
}

/**
 * Asks a host what it is and which of a stack's steps still hold, in one call; changes nothing.
 * @param portOfInterest the port whose holder is wanted
 * @throws Error when the host does not answer within 20 s or not in the agreed form
 */
export async function readFactsAndChecks(
  target: HostTarget,
  portOfInterest: number,
  stack: string,
): Promise<{ facts: HostFacts; checks: StepCheck[] }> {
  const answer = await callTarget(target, {
    script: "observe.sh",
    argv: [],
    environment: { TANDEM_PORT: String(portOfInterest), TANDEM_STACK: stack },
    timeoutSeconds: 20,
  });
  if (answer.code !== 0) throw new Error(`can't ask ${describeTarget(target)} what it is: ${lastLine(answer)}`);
  const [facts = "", ...checks] = answer.stdout.split("\n").filter((line) => line.trim() !== "");
  return {
    facts: hostFactsSchema.parse(JSON.parse(facts)) satisfies HostFacts,
    checks: checks.map((line) => stepCheckSchema.parse(JSON.parse(line))),
  };
}

/** Asks a host which of a stack's steps still hold; changes nothing. A host without the stack answers with none. */
export async function readChecks(target: HostTarget, stack: string): Promise<StepCheck[]> {
  const answer = await callTarget(target, {
    script: "work.sh",
    argv: ["check"],
    environment: { TANDEM_STACK: stack },
    timeoutSeconds: 20,
  });
  if (answer.code !== 0) throw new Error(`can't check the steps on ${describeTarget(target)}: ${lastLine(answer)}`);
  return answer.stdout
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => stepCheckSchema.parse(JSON.parse(line)));
}

/** Ends all detached work of a stack on a host, after Ctrl-C. Services keep running. */
export async function stopWork(target: HostTarget, stack: string, onLine?: (line: string) => void): Promise<void> {
  await expectSuccess(target, stack, "stop", 60, onLine);
}

/** Removing a driver builds the boot image anew: minutes. */
const SWEEP_SECONDS = 900;

/**
 * Takes back everything that the stack still has on a host, whatever Pulumi's state says, and proves that it is gone.
 * @throws Error when something survives; names it
 */
export async function sweepHost(target: HostTarget, stack: string, onLine?: (line: string) => void): Promise<void> {
  await expectSuccess(target, stack, "sweep", SWEEP_SECONDS, onLine);
}

/** Prints the log of a step's unit, or of the step itself, to `onOutput`. */
export async function readLog(
  target: HostTarget,
  stack: string,
  step: string | undefined,
  onOutput: (text: string) => void,
): Promise<number> {
  const answer = await callTarget(target, {
    script: "work.sh",
    argv: step === undefined ? ["logs"] : ["logs", step],
    environment: { TANDEM_STACK: stack },
    onOutput,
    timeoutSeconds: 60,
  });
  return answer.code;
}

/** Set to 1 by `tandem destroy --keep-cache`. */
export const KEEP_CACHE_VARIABLE = "TANDEM_KEEP_CACHE";

/** `TANDEM_KEEP_CACHE=1` at a destroy leaves runtimes and weights on the host, whatever the setting `cache` said. */
export function keepCache(): Record<string, string> {
  return process.env[KEEP_CACHE_VARIABLE] === "1" ? { [KEEP_CACHE_VARIABLE]: "1" } : {};
}

async function expectSuccess(
  target: HostTarget,
  stack: string,
  verb: string,
  timeoutSeconds: number,
  onLine?: (line: string) => void,
): Promise<void> {
  const environment = { TANDEM_STACK: stack, ...keepCache() };
  const answer = await callTarget(target, { script: "work.sh", argv: [verb], environment, timeoutSeconds, onLine });
  if (answer.code !== 0) throw new Error(`${verb} failed on ${describeTarget(target)}: ${lastLine(answer)}`);
}

export function describeTarget(target: HostTarget): string {
  switch (target.kind) {
    case "local":
      return "this machine";
    case "ssh":
      return target.name === target.host ? target.host : `${target.name} (${target.host})`;
    default:
      throw new Error(`unknown target ${JSON.stringify(target satisfies never)}`);
  }
}

function lastLine(answer: HostAnswer): string {
  const lines = `${answer.stdout}\n${answer.stderr}`.split("\n").filter((line) => line.trim() !== "");
  return lines.at(-1) ?? `exit ${answer.code} without a word`;
}
