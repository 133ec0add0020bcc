import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import type { SshTarget } from "./request";
import type { ConnectionFiles } from "./ssh-folder";

/**
 * Why a host can't be reached. `gone` may pass by itself, as while a host boots; the others stay until somebody changes something.
 */
export type SshErrorKind = "gone" | "refused-for-good";

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

interface Explanation {
  readonly pattern: RegExp;
  readonly kind: SshErrorKind;
  readonly what: string;
  readonly fix: (address: string, setting: string) => string;
}

const ADDRESS_FIX = (_: string, setting: string) =>
  `check that the machine runs and that ${setting} still is its address`;
const KNOWN_HOSTS_FIX = (address: string) =>
  `compare that fingerprint with the machine's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub there), then connect once by hand ` +
  `(ssh ${address}), set it as the host's hostKey, or set ssh.hostKeys to accept-new`;

/** What OpenSSH 8.4 to 10 says, in the order in which the more telling comes first. */
const EXPLANATIONS: readonly Explanation[] = [
  {
    pattern: /Could not resolve hostname/i,
    kind: "gone",
    what: "its name does not resolve",
    fix: (_, setting) => `check the name in ${setting}, or give it a HostName in ~/.ssh/config`,
  },
  {
    pattern: /Connection refused/,
    kind: "gone",
    what: "it refuses the connection: no SSH server listens on that port",
    fix: () => "start sshd there, or correct the port",
  },
  {
    pattern: /connect to (?:host|address) .*(?:timed out|No route to host|Network is unreachable|Host is down)/i,
    kind: "gone",
    what: "it does not answer",
    fix: ADDRESS_FIX,
  },
  {
    pattern: /REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed/,
    kind: "refused-for-good",
    what: "its host key is another one than before: a new machine at this address, or somebody in between",
    fix: () => "when the machine was set up anew, remove the old key (the line that is named) and connect again",
  },
  {
    pattern: /No \S+ host key is known for/,
    kind: "refused-for-good",
    what: "its host key is not known",
    fix: KNOWN_HOSTS_FIX,
  },
  {
    pattern: /Host key verification failed/,
    kind: "refused-for-good",
    what: "its host key is not accepted",
    fix: KNOWN_HOSTS_FIX,
  },
  {
    pattern: /System is (?:booting up|going down)|nologin/i,
    kind: "gone",
    what: "it is starting or going down and lets nobody in yet",
    fix: () => "wait a moment",
  },
  {
    pattern: /Too many authentication failures/,
    kind: "refused-for-good",
    what: "it gave up after too many keys",
    fix: () => "set identityFile to the one key that the machine knows",
  },
  {
    pattern: /Permission denied/,
    kind: "refused-for-good",
    what: "it lets nobody in with the keys that were offered",
    fix: () =>
      "check user and identityFile, load the key into the agent (ssh-add), or add it to ~/.ssh/authorized_keys there",
  },
  {
    pattern: /Unable to negotiate|no matching .* found/,
    kind: "refused-for-good",
    what: "it has no algorithm in common with this OpenSSH",
    fix: () => "update the older side",
  },
  {
    pattern:
      /Bad configuration option|terminating, \d+ bad configuration|Bad owner or permissions on|Can't open user config file/,
    kind: "refused-for-good",
    what: "the SSH configuration of this machine can't be read",
    fix: () => "correct what is named (~/.ssh/config)",
  },
  {
    pattern: /timed out|Timeout, server/i,
    kind: "gone",
    what: "it took too long to answer as an SSH server",
    fix: ADDRESS_FIX,
  },
  {
    pattern: /Connection (?:closed|reset)|kex_exchange_identification|Broken pipe|banner/i,
    kind: "gone",
    what: "it closed the connection before anybody was logged in",
    fix: () => "look at its sshd: too many connections at once (MaxStartups), a ban of this address, or a restart",
  },
];

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
  const cure = cures.find(([pattern]) => pattern.test(reason))?.[1] ?? "fix: see the reason";
  const lastWord = reason.split("\n").at(-1) ?? "";
  return new SshError(
    `${nameOf(target)}: Tandem's scripts can't be put there — ${lastWord} — ${cure}`,
    "refused-for-good",
  );
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
