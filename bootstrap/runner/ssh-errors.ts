import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import type { SshTarget } from "./request";
import { EXPLANATIONS, type Explanation, type SshErrorKind } from "./ssh-explanations";
import type { ConnectionFiles } from "./ssh-folder";

/** A host that could not be reached or used over SSH, told for people: what, why, what to do. */
export class SshError extends Error {
  constructor(
    message: string,
    readonly kind: SshErrorKind,
  ) {
    super(message);
    this.name = "SshError";
  }
}

/** The error for a connection that did not come about, from what ssh wrote to its log. */
export function explainFailure(target: SshTarget, files: ConnectionFiles): SshError {
  const jump = readOrEmpty(files.jumpLog);
  const own = readOrEmpty(files.log);
  const atJump = find(jump);
  if (atJump !== undefined && find(own)?.kind !== "refused-for-good") {
    const name = `${nameOf(target)}: the jump host ${target.jumpHost ?? "of your SSH configuration"}`;
    return tell(name, target.jumpHost ?? target.host, "ssh.jumpHost", atJump, jump);
  }
  const found = find(own);
  const log = own === "" ? jump : own;
  if (found !== undefined) return tell(nameOf(target), target.host, "ssh.hosts", found, log);
  return new SshError(`${nameOf(target)} can't be reached — ssh: ${lastLine(log)}`, "gone");
}

/** The pinned key is not what the host has. */
export function wrongPin(target: SshTarget, seen: string): SshError {
  return new SshError(
    `${nameOf(target)} can't be reached: its host key is not the pinned one — got ${seen} — pinned: ${target.hostKey ?? ""} — ` +
      `fix: find out whether the machine was set up anew; then set its hostKey to the new key, else somebody is in between`,
    "refused-for-good",
  );
}

export function noShell(target: SshTarget, said: string): SshError {
  const words = said === "" ? "nothing" : `"${said}"`;
  return new SshError(
    `${nameOf(target)} runs no commands for this user — it said ${words} — ` +
      `fix: a user whose login shell is a shell, without a forced command in authorized_keys or sshd_config`,
    "refused-for-good",
  );
}

/** Logged in, and then there was nobody. */
export function cutShort(target: SshTarget, said: string): SshError {
  const words = said === "" ? "" : ` — it said "${said}"`;
  return new SshError(
    `${nameOf(target)} ended the session as it began${words} — fix: wait until it has started`,
    "gone",
  );
}

export function noSudo(target: SshTarget, user: string, said: string): SshError {
  return new SshError(
    `${nameOf(target)}: ${user} can't become root without a password — sudo said "${said}" — allowed with ssh.sudo: always are root and users ` +
      `with NOPASSWD — fix: '${user} ALL=(ALL) NOPASSWD: ALL' in /etc/sudoers.d there, another user, or ssh.sudo: auto`,
    "refused-for-good",
  );
}

/** The scripts could not be put on the host. */
export function notPlaced(target: SshTarget, reason: string): SshError {
  const cures: [RegExp, string][] = [
    [/No space left|quota exceeded/i, "the disk is full — fix: free some space there"],
    [/Read-only file system/i, "the file system is read-only — fix: look for disk errors (dmesg), mount it writable"],
    [/Permission denied/i, "the folder can't be written to — fix: let the user own it, or use one who may use sudo"],
    [/another user/i, "the folder is not this user's — fix: connect as its owner"],
    [/not found/i, "a program is missing — fix: install tar, gzip and coreutils there"],
  ];
  // What ends a pipeline says last that something failed, not what.
  const [pattern, cure] = cures.find(([pattern]) => pattern.test(reason)) ?? [/$/, "fix: see the reason"];
  const said = reason.split("\n").findLast((line) => pattern.test(line)) ?? "";
  return new SshError(`${nameOf(target)}: Tandem's scripts can't be put there — ${said} — ${cure}`, "refused-for-good");
}

export function sshMissing(error: Error): Error {
  if ((error as NodeJS.ErrnoException).code !== "ENOENT") return error;
  return new SshError(
    "there is no ssh on this machine — fix: install the OpenSSH client (Debian, Ubuntu: openssh-client)",
    "refused-for-good",
  );
}

/** What people call the host, with its address where that is another word. */
export function nameOf({ name, host }: SshTarget): string {
  return name === host ? host : `${name} (${host})`;
}

/** The host's key as ssh's log names it: `ssh-ed25519 SHA256:…`. */
export function keyInLog(log: string): string | undefined {
  return [...log.matchAll(/Server host key: (\S+ SHA256:\S+)/g)].at(-1)?.[1];
}

export function readOrEmpty(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

/** For a host that is given by its address, a new address can only come from the settings. */
export function movedHint({ host }: SshTarget): string {
  return isIP(host) === 0 ? "" : "; when it has come back with another address, set that in ssh.hosts";
}

function find(log: string): Explanation | undefined {
  const said = words(log);
  return EXPLANATIONS.find(({ pattern }) => pattern.test(said));
}

function tell(name: string, address: string, setting: string, { what, fix, kind }: Explanation, log: string): SshError {
  const key = keyInLog(log);
  const details = [
    ...(/key is/.test(what) && key !== undefined ? [`it has ${key}`] : []),
    ...(/another one/.test(what) ? [offendingLine(log)] : []),
    ...(/lets nobody in/.test(what) && /keys/.test(what) ? [offeredKeys(log)] : []),
    `ssh: ${lastLine(log)}`,
  ].filter((detail) => detail !== "");
  return new SshError(
    `${name} can't be reached: ${what} — ${details.join(" — ")} — fix: ${fix(address, setting)}`,
    kind,
  );
}

function offendingLine(log: string): string {
  const place = /Offending .*key in (\S+?):(\d+)/.exec(log);
  return place === null ? "" : `the old one is in ${place[1] ?? ""}, line ${place[2] ?? ""}`;
}

function offeredKeys(log: string): string {
  const keys = [...log.matchAll(/Offering public key: (\S+)/g)].map((match) => match[1] ?? "");
  const user = /Authenticating to \S+ as '([^']+)'/.exec(log)?.[1];
  return `user ${user ?? "?"}, ${keys.length === 0 ? "no key was offered" : `offered ${[...new Set(keys)].join(", ")}`}`;
}

/** What ssh says to people, without its notes on how it went. */
function words(log: string): string {
  return log
    .split(/\r?\n/)
    .filter((line) => line !== "" && !/^debug\d:|^OpenSSH_|^@|^Warning: Permanently added|^Pseudo-terminal/.test(line))
    .join("\n");
}

function lastLine(log: string): string {
  return words(log).split("\n").at(-1)?.trim() || "it ended without a word";
}
