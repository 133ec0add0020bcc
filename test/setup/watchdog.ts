/**
 * Ends what a test run left behind when vitest itself was killed: waits for its standard input to close, which happens
 * however vitest ends, then ends every process with the run's mark and takes its test hosts away. Started by guard.ts with the run's id as argument.
 */
import { closeFleets, fleets } from "./fleets";
import { end, markedProcesses } from "./leftovers";

const run = process.argv[2];
for (const name of ["SIGINT", "SIGHUP", "SIGTERM"] as const) process.on(name, () => undefined);
process.stdin.resume();
process.stdin.on("close", () => {
  const left = markedProcesses().filter((marked) => marked.run === run && marked.processId !== process.pid);
  // Processes first: one of them may be making a host.
  void end(left)
    .then(() => closeFleets(fleets().filter((fleet) => fleet.run === run)))
    .finally(() => process.exit(0));
});
