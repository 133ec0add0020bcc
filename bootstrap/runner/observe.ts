import { randomBytes } from "node:crypto";
import type { HostFacts } from "../../plan/facts";
import { ProblemsError, type Problem } from "../../plan/problem";
import type { Settings } from "../../plan/settings";
import { readFactsAndChecks } from "./read-host";
import { lastSeen, type LastSeen } from "./last-seen";
import { STEP_NAMES, type HostTarget, type StepCheck, type StepName } from "./request";
import { targetName } from "./targets";

/** One host, observed, ready to be asked for steps. */
export interface Host {
  /** What people call it; unique in the stack. */
  readonly name: string;
  readonly target: HostTarget;
  /** Id of the stack on the host. */
  readonly stack: string;
  /** As the host is now, or was when it last answered. */
  readonly facts: HostFacts;
  /** True where there is no machine yet: the facts are the catalogue's, and the target is a name without an address. */
  readonly isPlanned?: true;
  /** Why it could not be asked; absent when it answered. */
  readonly unreachableBecause?: string;
  readonly checks: readonly StepCheck[];
  /** The repair token of each step: what the host has stored where the step holds, else a fresh one that names the reason. */
  readonly tokens: Readonly<Record<StepName, string>>;
}

/**
 * Asks all hosts at once what they are and which steps hold; changes nothing. A host that does not answer is taken as it was
 * last seen.
 * @throws ProblemsError naming every host that does not answer and was never seen before
 */
export async function observeHosts(
  targets: readonly HostTarget[],
  settings: Settings,
  stack: string,
): Promise<{ readonly host: Host; readonly seen?: LastSeen }[]> {
  const problems: Problem[] = [];
  const observed = await Promise.all(
    targets.map(async (target) => {
      const seen = target.kind === "local" ? undefined : lastSeen(target, stack);
      try {
        return { host: await observeHost(target, settings.port, stack), seen };
      } catch (error) {
        if (seen === undefined) {
          problems.push(silentHost(target, error));
          return undefined;
        }
        const because = error instanceof Error ? error.message : String(error);
        const silent = { ...base(target, stack), unreachableBecause: because, checks: [], tokens: repairTokens([]) };
        return { host: { ...silent, facts: seen.facts }, seen };
      }
    }),
  );
  if (problems.length > 0) throw new ProblemsError(problems, "Some hosts can't be asked, and nothing is known of them");
  return observed.filter((entry) => entry !== undefined);
}

/** The problem of a host that does not answer. @throws the error itself where the host is this machine */
export function silentHost(target: HostTarget, error: unknown): Problem {
  if (target.kind === "local") throw error;
  return { setting: "ssh.hosts", what: error instanceof Error ? error.message : String(error), value: target.name };
}

async function observeHost(target: HostTarget, port: number, stack: string): Promise<Host> {
  const { facts, checks } = await readFactsAndChecks(target, port, stack);
  return { ...base(target, stack), facts, checks, tokens: repairTokens(checks) };
}

/** A host that there is not yet, as the catalogue describes it. */
export function plannedHost(target: HostTarget, stack: string, facts: HostFacts): Host {
  return { ...base(target, stack), facts, checks: [], tokens: repairTokens([]), isPlanned: true };
}

function base(target: HostTarget, stack: string) {
  return { name: targetName(target), target, stack };
}

function repairTokens(checks: readonly StepCheck[]): Record<StepName, string> {
  const tokenOf = (step: StepName): string => {
    const check = checks.find((candidate) => candidate.step === step);
    if (check?.holds) return check.token;
    return `${check?.reason ?? "not applied on this host yet"} #${randomBytes(4).toString("hex")}`;
  };
  return Object.fromEntries(STEP_NAMES.map((step) => [step, tokenOf(step)])) as Record<StepName, string>;
}

/** Whether the step is as it was applied. A host that can't be asked is believed to be as it was. */
export function holds(host: Pick<Host, "checks" | "unreachableBecause">, step: StepName): boolean {
  return host.unreachableBecause !== undefined || host.checks.some((check) => check.step === step && check.holds);
}

/** Whether the host has this step at all, running or broken. */
function has(host: Pick<Host, "checks" | "unreachableBecause">, step: StepName): boolean {
  return host.unreachableBecause !== undefined || host.checks.some((check) => check.step === step);
}

/** The host as it would be without this stack: what the stack already uses must not count against it. */
export function withoutOwnUse(host: Host): HostFacts {
  const { facts } = host;
  const unlimited = Number.MAX_SAFE_INTEGER;
  return {
    ...facts,
    cache: holds(host, "weights") && holds(host, "runtime") ? { ...facts.cache, freeGiB: unlimited } : facts.cache,
    // Checkpoints of the stack's own jobs.
    ...(has(host, "training") && { stacks: facts.stacks && { ...facts.stacks, freeGiB: unlimited } }),
    ...(has(host, "serving") && {
      memoryAvailableGiB: facts.memoryTotalGiB,
      portHolder: undefined,
      gpus: facts.gpus.map((gpu) => ({ ...gpu, memoryUsedGiB: 0 })),
    }),
    startedWith: holds(host, "serving") ? facts.startedWith : undefined,
  };
}
