import { spawn, spawnSync } from "node:child_process";
import * as path from "node:path";

const script = path.join(__dirname, "../fixtures/kubernetes/build.sh");
/** Ends the build with the run that started it, however that ends: the run's end closes the pipe. */
const WHILE_OPEN = `setsid sh '${script}' >/dev/null 2>&1 & read -r _; kill -- -$! 2>/dev/null; :`;

/**
 * Begins to build the programs of a Kubernetes control plane when the run begins, beside all other tests, since nobody needs them before
 * those are over. Without Go nothing is begun, and the tests say so.
 */
export default function buildClusterPrograms(): (() => void) | undefined {
  const isBuilt = spawnSync("sh", [script, "--is-built"]).status === 0;
  if (isBuilt || spawnSync("go", ["version"]).status !== 0) return undefined;
  const build = spawn("nice", ["-n", "19", "sh", "-c", WHILE_OPEN], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  build.unref();
  (build.stdin as unknown as { unref(): void }).unref(); // A pipe is a socket; its type does not say so.
  return () => void build.stdin.end();
}
