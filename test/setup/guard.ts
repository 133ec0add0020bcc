import { spawn } from "node:child_process";
import * as path from "node:path";

import { closeFleets, type FleetOnDisk, fleets } from "./fleets";
import { end, type MarkedProcess, markedProcesses, RUN_VARIABLE } from "./leftovers";

/**
 * Marks everything that this run starts, ends what an earlier killed run left, and fails the run when a test left a
 * process or a test host behind. A watchdog does the same when this run is killed.
 */
export default async function guard(): Promise<() => Promise<void>> {
  await endEarlierRuns();
  const run = `${process.pid}-${Date.now()}`;
  process.env[RUN_VARIABLE] = run;
  const watchdog = spawn(process.execPath, ["--import", "tsx", path.join(__dirname, "watchdog.ts"), run], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  watchdog.unref();
  (watchdog.stdin as unknown as { unref(): void }).unref(); // A pipe is a socket; its type does not say so.

  return async () => {
    await closeForgotten(fleets().filter((fleet) => fleet.run === run));
    const marked = markedProcesses().filter((process) => process.run === run);
    const left = marked.filter((candidate) => !isOurs(candidate, marked, watchdog.pid));
    await end(left);
    if (left.length === 0) return;
    console.error(`Tests left ${left.length} process(es) running, ended now:\n${describe(left)}`);
    process.exitCode = 1; // An error thrown here is printed, but vitest exits with 0 all the same.
  };
}

/** Vitest itself, its workers, and the watchdog with its children. What a test started is a worker's child, or nobody's. */
function isOurs(candidate: MarkedProcess, all: readonly MarkedProcess[], watchdogId: number | undefined): boolean {
  const parent = all.find(({ processId }) => processId === candidate.parentId);
  return [candidate.processId, candidate.parentId].includes(process.pid) || parent?.processId === watchdogId;
}

async function closeForgotten(forgotten: readonly FleetOnDisk[]): Promise<void> {
  if (forgotten.length === 0) return;
  console.error(`Tests left ${forgotten.length} fleet(s) of test hosts, taken away now: ${namesOf(forgotten)}`);
  process.exitCode = 1;
  await closeFleets(forgotten);
}

function namesOf(named: readonly FleetOnDisk[]): string {
  return named.map(({ folder }) => folder).join(", ");
}

async function endEarlierRuns(): Promise<void> {
  const marked = markedProcesses();
  const left = marked.filter(({ run }) => run !== process.env[RUN_VARIABLE] && !isRunning(Number(run.split("-")[0])));
  if (left.length > 0) {
    console.warn(`Ending ${left.length} process(es) that a killed test run left:\n${describe(left)}`);
    await end(left);
  }
  const abandoned = fleets().filter(({ owned }) => !owned);
  if (abandoned.length === 0) return;
  console.warn(`Taking away test hosts that a killed run left: ${namesOf(abandoned)}`);
  await closeFleets(abandoned);
}

function isRunning(processId: number): boolean {
  try {
    process.kill(processId, 0);
    return true;
  } catch {
    return false;
  }
}

function describe(processes: readonly MarkedProcess[]): string {
  return processes
    .map(({ processId, owner, command }) => `  ${processId} ${owner ?? "-"} ${command.slice(0, 160)}`)
    .join("\n");
}
