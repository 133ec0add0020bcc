import { z } from "zod";
import type { HostFacts } from "../../plan/facts";
import { describeTarget, lastLine } from "./host";
import { STEP_NAMES, type HostTarget, type StepCheck } from "./request";
import { callTarget } from "./transport";

// Apart from host.ts, since the runner of a step reads no answers: it starts for every step, and zod takes longer than all the rest of it.

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

const footprintSchema = z.object({ key: z.string(), besideKvGiB: z.number() });

const hostFactsSchema = z.object({
  name: z.string(),
  architecture: z.string(),
  operatingSystem: z.object({ id: z.string(), version: z.string(), glibc: z.string().optional() }),
  cpuCores: z.int().positive(),
  memoryTotalGiB: z.number().positive(),
  memoryAvailableGiB: z.number().nonnegative(),
  cache: z.object({ path: z.string(), freeGiB: z.number().nonnegative() }),
  stacks: z.object({ path: z.string(), freeGiB: z.number().nonnegative() }).optional(),
  footprints: z.array(footprintSchema).optional(),
  startedWith: footprintSchema.optional(),
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
