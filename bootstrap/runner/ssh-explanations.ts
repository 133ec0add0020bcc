/**
 * Why a host can't be reached. `gone` may pass by itself, as while a host boots; the others stay until somebody changes something.
 */
export type SshErrorKind = "gone" | "refused-for-good";

/** A failure that OpenSSH tells of, and what to say about it. */
export interface Explanation {
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
export const EXPLANATIONS: readonly Explanation[] = [
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
