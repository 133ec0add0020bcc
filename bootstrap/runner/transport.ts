import { spawn } from "node:child_process";
import { join } from "node:path";
import { hostScriptsDirectory } from "./package-root";
import { callSsh } from "./ssh";
import type { HostTarget } from "./request";

/** One call of a host script. */
export interface HostCall {
  /** Name of the script in `bootstrap/host`. */
  readonly script:
    | "work.sh"
    | "facts.sh"
    | "observe.sh"
    | "wait-cloud-init.sh"
    | "model-config.sh"
    | "doctor.sh"
    | "capsule.sh"
    | "expiry-extend.sh";
  readonly argv: readonly string[];
  /** Added to the environment of the script; no secrets. */
  readonly environment: Readonly<Record<string, string>>;
  readonly stdin?: string;
  /** Called with each line of standard error as it arrives. */
  readonly onLine?: (line: string) => void;
  /** Called with each piece of standard output as it arrives; without it the output is only returned. */
  readonly onOutput?: (text: string) => void;
  readonly timeoutSeconds: number;
}

export interface HostAnswer {
  /** Exit status of the script; 124 when the limit ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a host script where the target says. A non-zero exit is an answer, not an error.
 * @throws Error when the script can't be started at all.
 */
export function callTarget(target: HostTarget, call: HostCall): Promise<HostAnswer> {
  switch (target.kind) {
    case "local":
      return callLocal(call);
    case "ssh":
      return callSsh(target, call);
    default:
      throw new Error(`unknown target ${JSON.stringify(target satisfies never)}`);
  }
}

function callLocal(call: HostCall): Promise<HostAnswer> {
  const scripts = hostScriptsDirectory();
  const child = spawn("sh", [join(scripts, call.script), ...call.argv], {
    env: { ...process.env, ...localHostFolder(), ...call.environment, TANDEM_SCRIPTS_DIR: scripts },
    stdio: ["pipe", "pipe", "pipe"],
  });
  return new Promise((resolve, reject) => {
    let stdout = "";
    let stderr = "";
    let partialLine = "";
    let timedOut = false;
    const limit = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
      // What the script has started may hold them for ever.
      child.stdout.destroy();
      child.stderr.destroy();
    }, call.timeoutSeconds * 1000);
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
      call.onOutput?.(text);
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
      const lines = (partialLine + text).split("\n");
      partialLine = lines.pop() ?? "";
      for (const line of lines) call.onLine?.(line);
    });
    child.on("error", (error) => {
      clearTimeout(limit);
      reject(error);
    });
    child.on("close", (code) => {
      clearTimeout(limit);
      if (partialLine !== "") call.onLine?.(partialLine);
      resolve({ code: timedOut ? 124 : (code ?? 1), stdout, stderr });
    });
    // The script may end before it has read all of its input: that shows in its exit status, not here.
    child.stdin.on("error", () => undefined);
    child.stdin.end(call.stdin ?? "");
  });
}

/** A workspace of its own (`TANDEM_HOME`) keeps what it does to this machine to itself too, so that two never meet in `/var/lib/tandem`. */
function localHostFolder(): Record<string, string> {
  const home = process.env["TANDEM_HOME"];
  if (home === undefined || home === "" || process.env["TANDEM_HOST_DIR"] !== undefined) return {};
  return { TANDEM_HOST_DIR: join(home, "host") };
}
