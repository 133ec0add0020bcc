import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, remember, type Connection } from "./ssh-connection";
import { movedHint, nameOf, notPlaced, SshError } from "./ssh-errors";
import type { Placing } from "./ssh-prologue";
import { runSession, scriptsOfThisRun } from "./ssh-session";
import type { SshTarget } from "./request";
import type { HostAnswer, HostCall } from "./transport";

/** For how long a host that was lost is looked for, in seconds. */
const RECONNECT_SECONDS = 300;
/** A host that can't be reached is asked again after this long at most, in milliseconds. */
const LONGEST_PAUSE_MS = 5_000;
const PROGRESS_EVERY_MS = 10_000;
const CLOUD_INIT_SECONDS = 600;

/** A line that `work.sh` prints before a work's log: which work it is. */
const LOG_LINE = "tandem-log: ";

/**
 * Runs a host script on a host behind OpenSSH. A cut link is mended: the call is made again, finds the work that it had begun and shows
 * only what was not shown yet.
 * @throws SshError when the host can't be reached, or is gone for longer than `TANDEM_RECONNECT_SECONDS`
 */
export async function callSsh(target: SshTarget, call: HostCall): Promise<HostAnswer> {
  const say = call.onLine ?? ((line: string) => process.stderr.write(`${line}\n`));
  const deadline = Date.now() + call.timeoutSeconds * 1000;
  const shown = new ShownLines(call.onLine);
  const callId = randomUUID();
  let connection = await connect(target, say);
  if (needsReadyHost(call)) connection = await waitForCloudInit(connection, say);
  const placingAlong: Placing = mayChangeHost(call) ? "install" : "for-this-call";
  const { digest } = scriptsOfThisRun();
  let placing: Placing = connection.record.lacksScripts === digest ? placingAlong : "use";
  for (;;) {
    const end = await runSession(connection, callAgain(call, callId, shown, deadline), placing);
    switch (end.kind) {
      case "ended":
        if (placing === "install") remember(connection, { lacksScripts: undefined });
        return { code: end.code, stdout: end.stdout, stderr: shown.text };
      case "timeout":
        return { code: 124, stdout: end.stdout, stderr: shown.text };
      case "missing":
        placing = placingAlong;
        connection = remember(connection, { lacksScripts: digest });
        break;
      case "unplaced":
        throw notPlaced(target, end.reason);
      case "lost":
        if (end.started && call.onOutput !== undefined) throw lostForGood(target, call, end.reason);
        connection = await reconnect(target, call, end.reason, deadline, say);
        break;
      default:
        throw new Error(`unknown end ${JSON.stringify(end satisfies never)}`);
    }
  }
}

/**
 * Waits until a host can be logged in to.
 * @param isRight refuses a connection that is not the one that is waited for
 * @param signal ends the wait
 * @throws SshError when it can't within the limit, or when only a person can change that
 */
export async function waitForHost(
  target: SshTarget,
  limitSeconds: number,
  say: (line: string) => void,
  isRight: (connection: Connection) => Promise<boolean> = () => Promise.resolve(true),
  signal?: AbortSignal,
): Promise<Connection> {
  const start = Date.now();
  const limit = start + limitSeconds * 1000;
  let said = start;
  let pause = 200;
  for (;;) {
    let why = "it has not restarted yet";
    try {
      const connection = await connect(target, say);
      if (await isRight(connection)) return connection;
    } catch (error) {
      if (!(error instanceof SshError) || error.kind !== "gone") throw error;
      why = error.message;
    }
    const now = Date.now();
    if (now + pause > limit) throw new SshError(`${why}, tried for ${limitSeconds} s${movedHint(target)}`, "gone");
    if (now - said >= PROGRESS_EVERY_MS) {
      say(`waiting for ${nameOf(target)}, ${Math.round((now - start) / 1000)} s of at most ${limitSeconds} s: ${why}`);
      said = now;
    }
    await sleep(pause, undefined, { signal });
    pause = Math.min(pause * 1.6, LONGEST_PAUSE_MS);
  }
}

async function reconnect(
  target: SshTarget,
  call: HostCall,
  reason: string,
  deadline: number,
  say: (line: string) => void,
): Promise<Connection> {
  const wanted = Number(process.env["TANDEM_RECONNECT_SECONDS"] ?? RECONNECT_SECONDS);
  const limitSeconds = Math.max(1, Math.min(wanted, (deadline - Date.now()) / 1000));
  const goesOn = isWork(call) ? "; the work goes on there" : "";
  say(`lost the link to ${nameOf(target)}${reason === "" ? "" : ` (${reason})`}${goesOn}; connecting again`);
  try {
    const connection = await waitForHost(target, Math.round(limitSeconds), say);
    say(`the link to ${nameOf(target)} is back`);
    return connection;
  } catch (error) {
    if (error instanceof SshError && error.kind === "gone") throw lostForGood(target, call, error.message);
    throw error;
  }
}

function lostForGood(target: SshTarget, call: HostCall, reason: string): SshError {
  const goesOn = isWork(call) ? "the work goes on there, and the next `tandem up` attaches to it" : "run it again";
  return new SshError(`the link to ${nameOf(target)} is lost — ${reason} — ${goesOn}`, "gone");
}

function isWork({ script, argv }: HostCall): boolean {
  return script === "work.sh" && ["apply", "undo", "sweep"].includes(argv[0] ?? "");
}

/** Only what changes the host leaves scripts on it: a look at a host that Tandem never touched leaves nothing there. */
function mayChangeHost(call: HostCall): boolean {
  return isWork(call);
}

/** A machine that sets itself up may get its driver meanwhile. Looking after work and ending it does not wait for that. */
function needsReadyHost({ script, argv }: HostCall): boolean {
  return script === "facts.sh" || script === "observe.sh" || argv[0] === "apply";
}

function callAgain(call: HostCall, callId: string, shown: ShownLines, deadline: number): HostCall {
  return {
    ...call,
    environment: { ...call.environment, TANDEM_CALL: callId, TANDEM_SHOWN: shown.position },
    onLine: (line) => shown.take(line),
    timeoutSeconds: Math.max(1, (deadline - Date.now()) / 1000),
  };
}

/** A machine that is setting itself up holds the package lock and may restart: what it is can't be told yet. */
async function waitForCloudInit(connection: Connection, say: (line: string) => void): Promise<Connection> {
  if (!connection.record.cloudInitRuns) return connection;
  const limit = process.env["TANDEM_CLOUD_INIT_SECONDS"] ?? String(CLOUD_INIT_SECONDS);
  const call: HostCall = {
    script: "wait-cloud-init.sh",
    argv: [],
    environment: { TANDEM_TIMEOUT_SECONDS: limit },
    timeoutSeconds: Number(limit) + 10,
    onLine: (line) => say(`${nameOf(connection.target)}: ${line}`),
  };
  const end = await runSession(connection, call, "for-this-call");
  if (end.kind === "ended" && end.code === 0) {
    return remember(connection, { cloudInitRuns: false });
  }
  if (end.kind === "lost") return waitForHost(connection.target, Number(limit), say);
  const last = end.kind === "ended" ? end.stderr.trim().split("\n").at(-1) : undefined;
  throw new SshError(`${nameOf(connection.target)} is not ready: ${last ?? "cloud-init goes on"}`, "gone");
}

/** The lines of a work's log that were passed on, so that none is passed on twice. */
class ShownLines {
  text = "";
  private workId = "";
  private count = 0;

  constructor(private readonly onLine?: (line: string) => void) {}

  /** `<work> <lines>` for the host, to go on from there. */
  get position(): string {
    return this.workId === "" ? "" : `${this.workId} ${this.count}`;
  }

  take(line: string): void {
    if (line.startsWith(LOG_LINE)) {
      const workId = line.slice(LOG_LINE.length);
      if (workId !== this.workId) this.count = 0;
      this.workId = workId;
      return;
    }
    if (this.workId !== "") this.count++;
    this.text += `${line}\n`;
    this.onLine?.(line);
  }
}
