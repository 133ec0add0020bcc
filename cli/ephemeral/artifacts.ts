import { cpSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Outputs } from "../../stacks/outputs";
import { environmentTargets } from "../environment-hosts";
import { findEnvironment } from "../environments";
import type { Interruption } from "../interruption";
import { hideSecrets } from "../stack-outputs";
import { runTandem } from "./processes";
import type { EphemeralRun } from "./run";
import type { Watchdog } from "./watchdog";

interface Collection {
  readonly run: EphemeralRun;
  /** Where the user wants them; without it only a failure's capsule is kept. */
  readonly folder?: string;
  readonly outputs?: Outputs;
  /** What failed, for people. */
  readonly failure?: string;
  readonly context: { readonly watchdog: Watchdog; readonly interruption: Interruption };
}

/**
 * Keeps what explains a run before its environment goes: outputs without secrets, logs of this machine and of the hosts, and of a
 * failure a capsule from each host. @returns lines that say where
 */
export async function keepArtifacts({ run, folder, outputs, failure, context }: Collection): Promise<string[]> {
  if (folder !== undefined) {
    mkdirSync(folder, { recursive: true });
    if (outputs !== undefined)
      writeFileSync(join(folder, "outputs.json"), JSON.stringify(hideSecrets(outputs), null, 2));
    const logs = join(run.workspace, "logs");
    if (existsSync(logs)) cpSync(logs, join(folder, "logs"), { recursive: true });
    const { stdout } = await runTandem(["logs", "--env", run.settings], { ...context, isUnstoppable: false });
    writeFileSync(join(folder, "hosts.log"), stdout);
  }
  const capsules = failure === undefined ? [] : await keepCapsules(run, failure, folder);
  return [...(folder === undefined ? [] : [`artefacts: ${folder}`]), ...capsules.map((path) => `failure: ${path}`)];
}

async function keepCapsules(run: EphemeralRun, message: string, folder: string | undefined): Promise<string[]> {
  const { keepCapsule } = await import("../../bootstrap/runner/capsule.js");
  const startedAt = new Date();
  const capsules = await Promise.all(
    environmentTargets(findEnvironment(run.settings)).map((target) =>
      keepCapsule({
        request: { target, stack: run.name, step: "serving", values: {}, timeoutSeconds: 60 },
        message,
        progress: [],
        startedAt,
      }),
    ),
  );
  const paths = capsules.flatMap((capsule) => (capsule === undefined ? [] : [capsule.path]));
  if (folder === undefined) return paths;
  return paths.map((path, index) => {
    const copy = join(folder, `failure-${index + 1}.capsule.md`);
    cpSync(path, copy);
    return copy;
  });
}
