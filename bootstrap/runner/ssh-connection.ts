import { spawn } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { connect as connectSocket } from "node:net";
import { isFingerprint, sshEnvironment, writeConfig } from "./ssh-config";
import { explainFailure, keyInLog, nameOf, readOrEmpty, wrongPin } from "./ssh-errors";
import { connectionFiles, type ConnectionFiles } from "./ssh-folder";
import { judge, probe, type ConnectionRecord } from "./ssh-probe";
import type { SshTarget } from "./request";
import { writeWhole } from "./write-whole";

/** An open connection to a host, shared by all processes of this user. */
export interface Connection {
  readonly target: SshTarget;
  readonly files: ConnectionFiles;
  readonly record: ConnectionRecord;
}

type Say = (line: string) => void;

/** A process that was killed while it opened a connection keeps the others waiting for this long. */
const STALE_LOCK_MS = 5_000;

/** Calls of one process that want the same connection wait for the one that opens it. */
const opening = new Map<string, Promise<Connection>>();

/**
 * The connection to a host; opens it where no process has done so yet.
 * @param say gets what people must know, as that a key is trusted on first use
 * @throws SshError with the cause and what to do
 */
export function connect(target: SshTarget, say: Say): Promise<Connection> {
  const files = connectionFiles(target);
  const open = opening.get(files.socket) ?? find(target, files, say).finally(() => opening.delete(files.socket));
  opening.set(files.socket, open);
  return open.then((connection) => ({ ...connection, target }));
}

/**
 * Ends the shared connections to hosts once nobody uses them: a session of another process, such as a log that is followed, goes on to
 * its end. The processes behind them would end by themselves after a minute without use.
 */
export async function closeConnections(targets: readonly { readonly kind: string }[]): Promise<void> {
  const hosts = targets.filter((target): target is SshTarget => target.kind === "ssh");
  await Promise.all(hosts.map(closeConnection));
}

async function closeConnection(target: SshTarget): Promise<void> {
  const files = connectionFiles(target);
  if (await isAlive(files.socket)) {
    const child = spawn("ssh", ["-F", files.config, "-S", files.socket, "-O", "stop", "--", target.host], {
      env: sshEnvironment(),
      stdio: "ignore",
    });
    await new Promise((resolve) => child.on("close", resolve).on("error", resolve));
    // Another process may have opened the next one by now.
    if (await isAlive(files.socket)) return;
  }
  forget(files);
}

/** Remembers something more about the host, for all processes where that can be written. @returns the connection with it */
export function remember(connection: Connection, found: Partial<ConnectionRecord>): Connection {
  const { files } = connection;
  const record = { ...connection.record, ...found };
  try {
    // Another process may know more by now. Of another boot this one knows nothing: its connection is older than the record.
    const known = readRecord(files);
    if (known.bootId === record.bootId) writeRecord(files, { ...known, ...found });
  } catch {
    // The next process finds it out by itself.
  }
  return { ...connection, record };
}

async function find(target: SshTarget, files: ConnectionFiles, say: Say): Promise<Connection> {
  return (await existing(target, files)) ?? (await openLocked(target, files, say));
}

async function existing(target: SshTarget, files: ConnectionFiles): Promise<Connection | undefined> {
  if (!(await isAlive(files.socket))) return undefined;
  try {
    return { target, files, record: readRecord(files) };
  } catch {
    return undefined;
  }
}

/** Steps run in processes of their own, so one of them opens while the others wait. */
async function openLocked(target: SshTarget, files: ConnectionFiles, say: Say): Promise<Connection> {
  const retries = { forever: true, factor: 1.5, minTimeout: 20, maxTimeout: 200 };
  const { lock } = await import("proper-lockfile");
  const release = await lock(files.socket, {
    realpath: false,
    stale: STALE_LOCK_MS,
    update: 1_000,
    retries,
    // After a pause of this process, or of the whole machine, another one opens too: the last connection is the one that is shared.
    onCompromised: () => undefined,
  });
  try {
    return (await existing(target, files)) ?? (await open(target, files, say));
  } finally {
    await release().catch(() => undefined);
  }
}

async function open(target: SshTarget, files: ConnectionFiles, say: Say): Promise<Connection> {
  forget(files);
  await writeConfig(target, files);
  let seen: string | undefined;
  for (const order of keyOrders(target)) {
    const answer = await probe(target, files, order);
    const log = readOrEmpty(files.log);
    seen ??= keyInLog(log);
    if (answer.facts !== undefined || /Authenticated to /.test(log)) {
      sayTrusted(target, log, say);
      try {
        const record = judge(target, answer, log);
        writeRecord(files, record);
        return { target, files, record };
      } catch (error) {
        await closeConnection(target);
        throw error;
      }
    }
    // A host has several keys; a fingerprint does not tell which kind it is of.
    if (!isPinRefused(target, log)) break;
  }
  throw isPinRefused(target, readOrEmpty(files.log))
    ? wrongPin(target, seen ?? "another key")
    : explainFailure(target, files);
}

function sayTrusted(target: SshTarget, log: string, say: Say): void {
  for (const [, host] of log.matchAll(/Permanently added '([^']+)'/g)) {
    say(
      `${nameOf(target)}: trusting the host key of ${host ?? ""} on first use: ${keyInLog(log) ?? "?"} — from now on it must be this one`,
    );
  }
}

/** Other kinds of host key to ask for, where the pin is a fingerprint. */
function keyOrders({ hostKey }: SshTarget): string[][] {
  if (hostKey === undefined || !isFingerprint(hostKey)) return [[]];
  const kinds = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521",
    "rsa-sha2-512,rsa-sha2-256",
  ];
  return kinds.map((algorithms) => ["-o", `HostKeyAlgorithms=${algorithms}`]);
}

function isPinRefused({ hostKey }: SshTarget, log: string): boolean {
  return hostKey !== undefined && /Host key verification failed|no matching host key type/.test(log);
}

/** Whether somebody listens at a socket; a process that was killed leaves the file. */
function isAlive(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const client = connectSocket(socket);
    client.on("connect", () => {
      client.destroy();
      resolve(true);
    });
    client.on("error", () => {
      resolve(false);
    });
  });
}

function readRecord(files: ConnectionFiles): ConnectionRecord {
  return JSON.parse(readFileSync(files.record, "utf8")) as ConnectionRecord;
}

function writeRecord(files: ConnectionFiles, record: ConnectionRecord): void {
  writeWhole(files.record, JSON.stringify(record));
}

function forget(files: ConnectionFiles): void {
  for (const file of [files.socket, files.record]) rmSync(file, { force: true });
}
