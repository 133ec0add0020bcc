import { execFile } from "node:child_process";
import { readFileSync, writeFileSync, renameSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { SshTarget } from "./request";
import type { ConnectionFiles } from "./ssh-folder";

/** A cut link is noticed after 3 unanswered questions, 15 s. */
const ALIVE_INTERVAL_SECONDS = 5;
const ALIVE_COUNT = 3;
const CONNECT_TIMEOUT_SECONDS = 10;
/** A connection that nobody uses ends by itself. */
const PERSIST_SECONDS = 60;

/**
 * Writes the configuration that every ssh process of a connection reads instead of the user's, which it includes. What stands before the
 * include wins, also for the user's own jump hosts, since ssh hands the file on to them; `SendEnv -*` takes back what stands before it.
 */
export async function writeConfig(target: SshTarget, files: ConnectionFiles): Promise<void> {
  writePin(target, files);
  const userFiles = target.hostKeys === "accept-new" ? await userKnownHosts(target, files) : [];
  const trust =
    target.hostKeys === "accept-new"
      ? [
          "StrictHostKeyChecking accept-new",
          `UserKnownHostsFile ${[files.trusted, ...userFiles].map(quoted).join(" ")}`,
        ]
      : ["StrictHostKeyChecking yes"];
  write(files.config, [
    "BatchMode yes",
    `ConnectTimeout ${CONNECT_TIMEOUT_SECONDS}`,
    "ConnectionAttempts 1",
    `ServerAliveInterval ${ALIVE_INTERVAL_SECONDS}`,
    `ServerAliveCountMax ${ALIVE_COUNT}`,
    ...trust,
    "UpdateHostKeys no",
    "CheckHostIP no",
    "HashKnownHosts no",
    "VisualHostKey no",
    "AddKeysToAgent no",
    "ForwardAgent no",
    "ForwardX11 no",
    "PermitLocalCommand no",
    "RequestTTY no",
    "ControlMaster no",
    "ControlPath none",
    // Before OpenSSH 8.7 they can't stand in a configuration.
    "IgnoreUnknown StdinNull,ForkAfterAuthentication,SessionType",
    "StdinNull no",
    "ForkAfterAuthentication no",
    ...(target.identityFile === undefined ? [] : [`IdentityFile ${quoted(withHome(target.identityFile))}`]),
    ...includes(),
    "Match all",
    "SendEnv -*",
  ]);
}

/** The arguments of an ssh process that uses the connection, up to the destination. */
export function sshArguments(target: SshTarget, files: ConnectionFiles): string[] {
  const pinned = target.hostKey !== undefined;
  return [
    ...["-F", files.config, "-T", "-x", "-a", "-S", files.socket],
    ...["-o", "ClearAllForwardings=yes", "-o", "RemoteCommand=none", "-o", "EscapeChar=none"],
    ...(target.user === undefined ? [] : ["-l", target.user]),
    ...(target.port === undefined ? [] : ["-p", String(target.port)]),
    ...(target.identityFile === undefined ? [] : ["-o", "IdentitiesOnly=yes"]),
    ...(target.jumpHost === undefined ? [] : ["-J", target.jumpHost]),
    ...(target.hostKeyAlias === undefined ? [] : ["-o", `HostKeyAlias=${target.hostKeyAlias}`]),
    ...(target.proxyCommand === undefined ? [] : ["-o", `ProxyCommand=${target.proxyCommand}`]),
    ...(pinned ? pinArguments(target.hostKey, files) : []),
  ];
}

/** What the process that opens the connection gets beside {@link sshArguments}. Its log tells what went wrong, and the host's key. */
export function openingArguments(files: ConnectionFiles): string[] {
  const options = ["ControlMaster=yes", `ControlPersist=${PERSIST_SECONDS}`];
  // Without -v a jump host's words would go nowhere.
  return ["-v", "-E", files.log, ...options.flatMap((option) => ["-o", option])];
}

/** The environment of an ssh process: the agent and what the user's own proxy commands need, nothing of Pulumi's. */
export function sshEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(?:PULUMI_|TANDEM_)/.test(name));
  // Nobody is there to answer a window.
  return { ...Object.fromEntries(kept), SSH_ASKPASS_REQUIRE: "never" };
}

/** A key is pinned as a known_hosts file, a fingerprint by a command that ssh asks for the keys it may accept. */
function pinArguments(hostKey: string, files: ConnectionFiles): string[] {
  const strict = ["-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null"];
  if (!isFingerprint(hostKey)) return [...strict, "-o", `UserKnownHostsFile=${quoted(files.pin)}`];
  const answer = `KnownHostsCommand=/bin/sh ${files.pin} %f %t %K`;
  return [...strict, "-o", "UserKnownHostsFile=/dev/null", "-o", answer];
}

function writePin({ hostKey }: SshTarget, files: ConnectionFiles): void {
  if (hostKey === undefined) return;
  if (isFingerprint(hostKey)) write(files.pin, [`[ "$1" != '${hostKey}' ] || printf '* %s %s\\n' "$2" "$3"`]);
  else write(files.pin, [`* ${hostKey}`]);
}

export function isFingerprint(hostKey: string): boolean {
  return hostKey.startsWith("SHA256:");
}

function includes(): string[] {
  const own = process.env["TANDEM_SSH_CONFIG"];
  if (own !== undefined && own !== "") return [`Include ${quoted(own)}`];
  return ["Include ~/.ssh/config", "Match all", "Include /etc/ssh/ssh_config"];
}

/** The known_hosts files that the user's own configuration names for a host. */
async function userKnownHosts(target: SshTarget, files: ConnectionFiles): Promise<string[]> {
  // Another ssh process may read the connection's own configuration at any moment.
  const users = `${files.config}.users`;
  write(users, includes());
  const { stdout } = await promisify(execFile)("ssh", ["-G", "-F", users, "--", target.host], {
    env: sshEnvironment(),
    timeout: 10_000,
  });
  const line = /^userknownhostsfile (.*)$/m.exec(stdout)?.[1] ?? "";
  return line.split(" ").filter((file) => file !== "" && file !== "none");
}

function write(file: string, lines: readonly string[]): void {
  const text = lines.map((line) => `${line}\n`).join("");
  try {
    if (readFileSync(file, "utf8") === text) return;
  } catch {
    // Not there yet.
  }
  writeFileSync(`${file}.${process.pid}`, text, { mode: 0o600 });
  renameSync(`${file}.${process.pid}`, file);
}

function withHome(path: string): string {
  return path.startsWith("~/") ? join(homedir(), path.slice(2)) : path;
}

/** For ssh's configuration; a percent sign begins a token there. */
function quoted(value: string): string {
  return `"${value.replaceAll("%", "%%")}"`;
}
