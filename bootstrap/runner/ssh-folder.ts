import { createHash } from "node:crypto";
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { isAbsolute, join } from "node:path";
import type { SshTarget } from "./request";
import { stateFolder } from "./state-folder";

/** Files of one connection, all in a folder that only this user can enter. */
export interface ConnectionFiles {
  /** Socket of the shared connection. */
  readonly socket: string;
  /** What was found out when it was opened. */
  readonly record: string;
  /** Configuration that every ssh process of this connection reads. */
  readonly config: string;
  /** What ssh says about the connection; the jump host's words are in `jumpLog`. */
  readonly log: string;
  readonly jumpLog: string;
  /** The pinned key of the host, as a known_hosts file. */
  readonly pin: string;
  /** Keys that this machine's Tandem trusted on first use. */
  readonly trusted: string;
}

/** A socket's path may have 107 bytes on Linux and 103 on macOS, and ssh adds 17 while it makes one. */
const LONGEST_SOCKET_PATH = 86;
const ID_LENGTH = 16;

/** Where the files of the connection to a target lie; makes the folder. Targets that differ in anything share nothing. */
export function connectionFiles(target: SshTarget): ConnectionFiles {
  const folder = connectionFolder();
  const { name: _, ...address } = target;
  const userConfig = process.env["TANDEM_SSH_CONFIG"] ?? "";
  // A step's runner gets its target as JSON, where what is not set is not there at all.
  const told = Object.entries(address).filter(([, value]) => value !== undefined);
  const text = JSON.stringify([told.sort(), userConfig]);
  const id = createHash("sha256").update(text).digest("hex").slice(0, ID_LENGTH);
  const file = (ending: string) => join(folder, `${id}${ending}`);
  return {
    socket: file(""),
    record: file(".json"),
    config: file(".config"),
    log: file(".log"),
    jumpLog: file(".jump"),
    pin: file(".pin"),
    trusted: join(stateFolder(), "known_hosts"),
  };
}

/**
 * The folder of the sockets: below the state folder, else, where that path is too long for a socket, a folder with a name
 * that nobody can guess, remembered there.
 * @throws Error when another user could get at it
 */
function connectionFolder(): string {
  const folder = join(stateFolder(), "ssh");
  makePrivate(folder);
  if (fits(folder)) return folder;
  const runtime = process.env["XDG_RUNTIME_DIR"];
  const pointer = join(folder, "folder");
  const remembered = readPointer(pointer);
  if (remembered !== undefined) return remembered;
  const base =
    runtime !== undefined && isAbsolute(runtime) && fits(join(runtime, "tandem-XXXXXX")) ? runtime : tmpdir();
  const made = mkdtempSync(join(base, "tandem-"));
  try {
    writeFileSync(pointer, made, { mode: 0o600, flag: "wx" });
    return made;
  } catch {
    // Another process was faster, or the folder that is remembered went with a restart.
    const other = readPointer(pointer);
    if (other !== undefined) return other;
    writeFileSync(pointer, made, { mode: 0o600 });
    return made;
  }
}

function readPointer(pointer: string): string | undefined {
  try {
    const folder = readFileSync(pointer, "utf8");
    makePrivate(folder);
    return folder;
  } catch {
    return undefined;
  }
}

function fits(folder: string): boolean {
  return Buffer.byteLength(join(folder, "x".repeat(ID_LENGTH))) <= LONGEST_SOCKET_PATH;
}

function makePrivate(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const { uid, mode } = lstatSync(folder);
  const isOurs = uid === process.getuid?.() && (mode & 0o170077) === 0o040000;
  if (!isOurs) {
    throw new Error(
      `the folder for SSH connections is not private — got ${folder} (owner ${uid}, mode ${(mode & 0o7777).toString(8)}) — ` +
        `allowed: a folder of your own that nobody else can enter — fix: chmod 700 ${folder}, or set TANDEM_HOME`,
    );
  }
}
