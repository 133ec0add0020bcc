import { readdirSync, readFileSync } from "node:fs";

/** Every process that a test starts inherits this variable, also when it detaches; its value names the run. */
export const RUN_VARIABLE = "TANDEM_TEST_RUN";

export interface MarkedProcess {
  readonly processId: number;
  readonly parentId: number;
  /** Value of `TANDEM_TEST_RUN`: `<process id of vitest>-<start, milliseconds>`. */
  readonly run: string;
  /** Value of `TANDEM_OWNER`, `<stack>/<step>`, for what a host step left behind. */
  readonly owner?: string;
  readonly command: string;
}

/** Running processes of this user that carry the mark of any test run; zombies are left out, for they hold nothing. */
export function markedProcesses(): MarkedProcess[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => readMarked(Number(name)) ?? []);
}

function readMarked(processId: number): MarkedProcess | undefined {
  try {
    const variables = readFileSync(`/proc/${processId}/environ`, "utf8").split("\0");
    const run = valueOf(variables, RUN_VARIABLE);
    if (run === undefined) return undefined;
    // The command's name stands in parentheses and may hold spaces; state and parent follow the last one.
    const [state, parent] = readFileSync(`/proc/${processId}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
    if (state === "Z" || state === "X") return undefined;
    const command = readFileSync(`/proc/${processId}/cmdline`, "utf8").split("\0").join(" ").trim();
    return { processId, parentId: Number(parent), run, owner: valueOf(variables, "TANDEM_OWNER"), command };
  } catch {
    return undefined; // It ended while we looked, or it is another user's.
  }
}

function valueOf(variables: readonly string[], name: string): string | undefined {
  return variables.find((variable) => variable.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** Ends the processes: asks, waits up to three seconds, then kills. */
export async function end(processes: readonly MarkedProcess[]): Promise<void> {
  for (const { processId } of processes) signal(processId, "SIGTERM");
  for (let round = 0; round < 30 && processes.some(({ processId }) => isAlive(processId)); round++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  for (const { processId } of processes) signal(processId, "SIGKILL");
}

function isAlive(processId: number): boolean {
  return markedProcesses().some((process) => process.processId === processId);
}

function signal(processId: number, name: NodeJS.Signals): void {
  try {
    process.kill(processId, name);
  } catch {
    // It is gone already.
  }
}
