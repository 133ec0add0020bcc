import { spawn, type ChildProcess } from "node:child_process";
import { statSync } from "node:fs";
import { hostScriptsDirectory } from "./package-root";
import type { Connection } from "./ssh-connection";
import { sshArguments, sshEnvironment } from "./ssh-config";
import { sshMissing } from "./ssh-errors";
import { callPrologue, newMark, remoteCommand, type Placing } from "./ssh-prologue";
import { hostScripts, type HostScripts } from "./ssh-scripts";
import type { HostCall } from "./transport";

/** How one session on a host ended. */
export type SessionEnd =
  | { readonly kind: "ended"; readonly code: number; readonly stdout: string; readonly stderr: string }
  /** The host does not have this version of the scripts. */
  | { readonly kind: "missing" }
  /** The scripts could not be put on the host. */
  | { readonly kind: "unplaced"; readonly reason: string }
  /** The session ended without the script's end. `started` tells whether the script was reached. */
  | { readonly kind: "lost"; readonly started: boolean; readonly reason: string }
  | { readonly kind: "timeout"; readonly stdout: string; readonly stderr: string };

const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGTERM");
});

/** Runs a host script in one session of the connection. Work that it started detached survives this process. */
export function runSession(connection: Connection, call: HostCall, placing: Placing): Promise<SessionEnd> {
  const mark = newMark();
  const scripts = scriptsOfThisRun();
  const archive = placing === "use" ? Buffer.alloc(0) : scripts.archive();
  const prologue = callPrologue(mark, call, scripts, placing, archive.length);
  const { target, files, record } = connection;
  const child = spawn(
    "ssh",
    [...sshArguments(target, files), "-o", "LogLevel=ERROR", "--", target.host, remoteCommand(prologue, record.asRoot)],
    { env: sshEnvironment(), stdio: ["pipe", "pipe", "pipe"] },
  );
  running.add(child);
  const input = Buffer.concat([Buffer.from(prologue.text), archive, Buffer.from(call.stdin ?? "")]);
  // The host may end before it has read all of its input: that shows in how the session ends.
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  return endOf(child, mark, call);
}

let known: { readonly scripts: HostScripts; readonly changedAtMs: number } | undefined;

/** Read and packed once, unless their folder changes: a run that asks eight hosts would do so eight times. */
export function scriptsOfThisRun(): HostScripts {
  const changedAtMs = statSync(hostScriptsDirectory()).mtimeMs;
  if (known?.changedAtMs !== changedAtMs) {
    const found = hostScripts();
    let packed: Buffer | undefined;
    known = { changedAtMs, scripts: { ...found, archive: () => (packed ??= found.archive()) } };
  }
  return known.scripts;
}

function endOf(child: ChildProcess, mark: string, call: HostCall): Promise<SessionEnd> {
  const stdout = new AfterMark(mark);
  const stderr = new MarkedLines(mark, call.onLine);
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    const own = stdout.push(text);
    if (own !== "") call.onOutput?.(own);
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => stderr.push(text));
  return new Promise((resolve, reject) => {
    let timedOut = false;
    const limit = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
      // A proxy command may hold them for ever.
      child.stdout?.destroy();
      child.stderr?.destroy();
    }, call.timeoutSeconds * 1000);
    const settle = (finish: () => void) => {
      clearTimeout(limit);
      running.delete(child);
      finish();
    };
    child.on("error", (error) => settle(() => reject(sshMissing(error))));
    child.on("close", (exitStatus) =>
      settle(() => {
        if (timedOut && stderr.end === undefined)
          resolve({ kind: "timeout", stdout: stdout.text, stderr: stderr.text });
        else resolve(toEnd(exitStatus, stderr, stdout));
      }),
    );
  });
}

function toEnd(exitStatus: number | null, stderr: MarkedLines, stdout: AfterMark): SessionEnd {
  // The prologue always ends with 0; with anything else the rest of the standard output may be missing.
  switch (exitStatus === 0 ? stderr.end : undefined) {
    case undefined:
      return { kind: "lost", started: stderr.started, reason: stderr.lastWords() };
    case "missing":
      return { kind: "missing" };
    case "unplaced":
      return { kind: "unplaced", reason: stderr.text.trim() };
    default:
      return { kind: "ended", code: Number(stderr.end), stdout: stdout.text, stderr: stderr.text };
  }
}

/** A text without what comes before a line that is the mark. */
class AfterMark {
  text = "";
  private before: string | undefined = "";

  constructor(private readonly mark: string) {}

  push(text: string): string {
    let own = text;
    if (this.before !== undefined) {
      this.before += text;
      const at = this.before.indexOf(`${this.mark}\n`);
      if (at < 0) return "";
      own = this.before.slice(at + this.mark.length + 1);
      this.before = undefined;
    }
    this.text += own;
    return own;
  }
}

/** Standard error line by line, from the mark to the line that begins with the mark and ends with how the script ended. */
class MarkedLines {
  text = "";
  started = false;
  end: string | undefined;
  private before = "";
  private partial = "";

  constructor(
    private readonly mark: string,
    private readonly onLine?: (line: string) => void,
  ) {}

  push(text: string): void {
    const lines = (this.partial + text).split("\n");
    this.partial = lines.pop() ?? "";
    for (const line of lines) this.take(line);
  }

  /** What ssh itself, or the host before the script, said last. */
  lastWords(): string {
    const said = this.started ? this.partial : `${this.before}${this.partial}`;
    return said.trim().split("\n").at(-1)?.trim() ?? "";
  }

  private take(line: string): void {
    if (!this.started) {
      // A login shell may have printed something without ending its line.
      if (line.endsWith(this.mark)) this.started = true;
      else this.before += `${line}\n`;
      return;
    }
    const at = line.indexOf(`${this.mark} `);
    if (at !== 0) this.show(at < 0 ? line : line.slice(0, at));
    if (at >= 0) this.end = line.slice(at + this.mark.length + 1).trim();
  }

  private show(line: string): void {
    if (this.end !== undefined) return;
    this.text += `${line}\n`;
    this.onLine?.(line);
  }
}
