/**
 * The program that Pulumi's commands start: `tandem-runner apply | undo` with a StepRequest as JSON on standard input,
 * `tandem-runner key` for a new API key, `tandem-runner launch | end-launch` for rented machines, `cluster-*` for a cluster. Progress goes to standard error, one JSON result to standard output.
 */
import { randomBytes } from "node:crypto";
import { text } from "node:stream/consumers";
import { explainingFailure } from "./failure";
import { proveStep } from "./proof";
import { applyStep, StepError, undoStep } from "./step";
import type { LaunchRequest } from "../cloud/launch-request";
import type { StepRequest } from "./request";

/** 256 bits: guessing is hopeless whatever the rate. */
const KEY_BYTES = 32;

async function main(verb: string | undefined): Promise<void> {
  switch (verb) {
    case "key":
      process.stdout.write(`tdm-${randomBytes(KEY_BYTES).toString("base64url")}\n`);
      return;
    case "apply":
    case "undo": {
      const request = withRepairToken(JSON.parse(await text(process.stdin)) as StepRequest);
      await explainingFailure(request, async (onProgress) => {
        if (verb === "undo") return undoStep(request, { onProgress });
        const apply = request.step === "proof" ? proveStep : applyStep;
        process.stdout.write(`${JSON.stringify(await apply(request, { onProgress }))}\n`);
      });
      return;
    }
    case "launch":
    case "end-launch": {
      const request = JSON.parse(await text(process.stdin)) as LaunchRequest;
      const say = (line: string) => process.stderr.write(`${line}\n`);
      // The cloud's SDK takes a while to load: no other step pays for it.
      const { launchStep, endLaunchStep } = await import("../cloud/launch-step.js");
      if (verb === "end-launch") return endLaunchStep(request, say);
      process.stdout.write(`${JSON.stringify(await launchStep(request, say))}\n`);
      return;
    }
    case "cluster-hold":
    case "cluster-proof":
    case "cluster-gone": {
      const { clusterStep } = await import("../kubernetes/step.js");
      const say = (line: string) => process.stderr.write(`${line}\n`);
      const result = await clusterStep(verb, JSON.parse(await text(process.stdin)), say);
      process.stdout.write(`${JSON.stringify(result)}\n`);
      return;
    }
    default:
      throw new StepError(
        "runner",
        `usage: tandem-runner apply | undo | key | launch | end-launch | cluster-hold | cluster-proof | cluster-gone (got ${String(verb)})`,
      );
  }
}

/** The token is an input of its own at the command, so that the preview names it; the host stores it beside the step. */
function withRepairToken(request: StepRequest): StepRequest {
  const token = process.env["TANDEM_REPAIR"] ?? "";
  return { ...request, values: { ...request.values, TANDEM_REPAIR: token } };
}

// Ends what this process started on the way out; work on a host goes on.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(143));

main(process.argv[2]).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
