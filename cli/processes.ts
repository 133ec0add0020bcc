import { existsSync, readdirSync, readFileSync } from "node:fs";

/** A process that can't be mistaken for a later one with the same number. */
export interface ProcessIdentity {
  readonly processId: number;
  /** Start time in clock ticks since boot, as `/proc/<pid>/stat` has it; empty where there is no `/proc`. */
  readonly startTicks: string;
}

export function thisProcess(): ProcessIdentity {
  return { processId: process.pid, startTicks: startTicksOf(process.pid) ?? "" };
}

/** Whether the process still runs; a zombie does not. */
export function isAlive({ processId, startTicks }: ProcessIdentity): boolean {
  const now = startTicksOf(processId);
  if (now !== undefined) return startTicks === "" || startTicks === now;
  if (process.platform === "linux") return false;
  try {
    process.kill(processId, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Field 22 of `/proc/<pid>/stat`; undefined when there is no such process, or only its zombie. */
export function startTicksOf(processId: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${processId}/stat`, "utf8");
    // The second field is the command in parentheses and may hold spaces and parentheses itself.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** One variable of a process's environment; undefined when it has none or may not be looked at. */
export function environmentVariableOf(processId: number, name: string): string | undefined {
  try {
    const variables = readFileSync(`/proc/${processId}/environ`, "utf8").split("\0");
    return variables.find((variable) => variable.startsWith(`${name}=`))?.slice(name.length + 1);
  } catch {
    return undefined;
  }
}

/** Ids of the processes called `command` whose environment variable `name` satisfies `matches`. */
export function findProcesses(command: string, name: string, matches: (value: string) => boolean): number[] {
  if (process.platform !== "linux") return [];
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((processId) => commandOf(processId) === command)
    .filter((processId) => {
      const value = environmentVariableOf(processId, name);
      return value !== undefined && matches(value);
    });
}

function commandOf(processId: number): string | undefined {
  try {
    return readFileSync(`/proc/${processId}/comm`, "utf8").trim();
  } catch {
    return undefined;
  }
}

/** Signals a process that may be gone already. */
export function signalProcess(processId: number, signal: NodeJS.Signals): void {
  try {
    process.kill(processId, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Waits until none of the processes runs any more. @returns whether that was so within the limit */
export async function waitForEnd(processIds: readonly number[], limitSeconds: number): Promise<boolean> {
  const deadline = Date.now() + limitSeconds * 1000;
  const anyAlive = () => processIds.some((processId) => isAlive({ processId, startTicks: "" }));
  while (anyAlive()) {
    if (Date.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return true;
}

/** Asks this process's own children to end; those of a download or a build would go on for minutes. */
export function endChildren(): void {
  const list = `/proc/self/task/${process.pid}/children`;
  // Only Linux can tell, and not in every build.
  const children = existsSync(list) ? readFileSync(list, "utf8") : "";
  for (const processId of children.trim().split(" ").filter(Boolean)) signalProcess(Number(processId), "SIGTERM");
}
