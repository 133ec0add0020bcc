import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, rmSync } from "node:fs";
import { openingArguments, sshArguments, sshEnvironment } from "./ssh-config";
import { cutShort, noShell, noSudo, readOrEmpty, sshMissing } from "./ssh-errors";
import type { ConnectionFiles } from "./ssh-folder";
import { newMark, probePrologue, remoteCommand } from "./ssh-prologue";
import type { SshTarget } from "./request";

/** What was found out about the host when the connection was opened. */
export interface ConnectionRecord {
  readonly user: string;
  /** Scripts run as root: by logging in as root, or by sudo where `asRoot` says so. */
  readonly isRoot: boolean;
  /** Calls go through sudo. */
  readonly asRoot: boolean;
  readonly bootId: string;
  /** The machine is still setting itself up. */
  readonly cloudInitRuns: boolean;
  /** Digest of the scripts that the host was found not to have: they come along at once the next time. */
  readonly lacksScripts?: string;
}

const PROBE_LIMIT_SECONDS = 45;

/** What a host answered when it was asked for the first time. */
export interface ProbeAnswer {
  readonly facts: ReadonlyMap<string, string> | undefined;
  readonly said: string;
}

/**
 * Opens the connection with a first session that asks the host a few things. The connection goes on in the background when that
 * session ends; files instead of pipes, so that nobody waits for it, and a session of its own, so that nothing asks the terminal.
 */
export async function probe(target: SshTarget, files: ConnectionFiles, keyOrder: string[]): Promise<ProbeAnswer> {
  for (const file of [files.log, files.jumpLog]) rmSync(file, { force: true });
  const mark = newMark();
  const prologue = probePrologue(mark);
  const answerFile = `${files.record}.${process.pid}`;
  const output = openSync(answerFile, "w", 0o600);
  const errors = openSync(files.jumpLog, "w", 0o600);
  try {
    const child = spawn(
      "ssh",
      [
        ...openingArguments(files),
        ...sshArguments(target, files),
        ...keyOrder,
        "--",
        target.host,
        remoteCommand(prologue, false),
      ],
      { env: sshEnvironment(), stdio: ["pipe", output, errors], detached: true },
    );
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(prologue.text);
    await new Promise<void>((resolve, reject) => {
      const limit = setTimeout(() => child.kill("SIGKILL"), PROBE_LIMIT_SECONDS * 1000);
      child.on("error", (error) => {
        clearTimeout(limit);
        reject(sshMissing(error));
      });
      child.on("exit", () => {
        clearTimeout(limit);
        resolve();
      });
    });
    return readAnswer(readFileSync(answerFile, "utf8"), readOrEmpty(files.jumpLog), mark);
  } finally {
    closeSync(output);
    closeSync(errors);
    rmSync(answerFile, { force: true });
  }
}

function readAnswer(output: string, errors: string, mark: string): ProbeAnswer {
  const at = output.indexOf(`${mark}\n`);
  const said =
    `${output}\n${errors}`
      .trim()
      .split("\n")
      .filter((line) => !line.startsWith("debug"))
      .at(-1) ?? "";
  if (at < 0) return { facts: undefined, said };
  const lines = output.slice(at + mark.length + 1).split("\n");
  const facts = new Map(lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
  return { facts: facts.has("boot") ? facts : undefined, said };
}

/**
 * What an answer means for the calls that follow.
 * @param log of the ssh process that asked
 * @throws SshError when the host can't be worked on as this user
 */
export function judge(target: SshTarget, { facts, said }: ProbeAnswer, log: string): ConnectionRecord {
  if (facts === undefined) {
    // A machine that is going down lets one in and ends the session before it began.
    const wasRefused = /rtype exit-status/.test(log) && !/System is (?:booting up|going down)/.test(said);
    throw wasRefused ? noShell(target, said) : cutShort(target, said);
  }
  const user = facts.get("user") ?? "";
  const isRootUser = facts.get("uid") === "0";
  const sudo = facts.get("sudo") ?? "";
  const asRoot = !isRootUser && target.sudo !== "never" && sudo === "yes";
  if (target.sudo === "always" && !isRootUser && !asRoot) throw noSudo(target, user, sudo);
  const bootId = facts.get("boot") ?? "";
  return { user, isRoot: isRootUser || asRoot, asRoot, bootId, cloudInitRuns: facts.get("cloud-init") === "running" };
}
