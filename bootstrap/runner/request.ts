/** How the runner reaches a host: it is this machine, or OpenSSH goes there. */
export type HostTarget = { readonly kind: "local" } | SshTarget;

/** A host behind OpenSSH. What is left out comes from the user's own SSH configuration. */
export interface SshTarget {
  readonly kind: "ssh";
  /** What people call it; names its resources. */
  readonly name: string;
  /** Name, address or alias of the SSH configuration. */
  readonly host: string;
  readonly user?: string;
  readonly port?: number;
  readonly identityFile?: string;
  /** `[user@]host[:port]`. */
  readonly jumpHost?: string;
  /** The host's key as it must be, `ssh-ed25519 AAAA…` or `SHA256:…`; wins over `hostKeys`. */
  readonly hostKey?: string;
  /** `known-hosts` refuses a host that the user does not know yet; `accept-new` trusts it on first use, says so, and pins its key. */
  readonly hostKeys: "known-hosts" | "accept-new";
  /** Name that its key is remembered by, where an address goes from machine to machine. */
  readonly hostKeyAlias?: string;
  /** What ssh talks to the host through, in place of a connection of its own. */
  readonly proxyCommand?: string;
  /** Which instance it is, where the machine is rented. */
  readonly instance?: { readonly id: string; readonly region: string; readonly isSpot: boolean };
  /** `auto` works as root where `sudo -n` allows it, else as the user; `always` refuses without; `never` does not ask. */
  readonly sudo: "auto" | "always" | "never";
}

/**
 * The names of the host steps, each a script `bootstrap/host/<step>.sh` with `check`, `apply` and `undo`,
 * in the order in which they are applied.
 */
export const STEP_NAMES = [
  "lease",
  "expiry",
  "spot",
  "driver",
  "runtime",
  "weights",
  "serving",
  "trainer",
  "training",
  "gateway",
  "proof",
] as const;
export type StepName = (typeof STEP_NAMES)[number];

/** What `@pulumi/command` hands to the runner on standard input. Everything in it may be a secret, so it never goes to argv. */
export interface StepRequest {
  readonly target: HostTarget;
  /** Id of the stack on the host: lower-case letters, digits and dashes. */
  readonly stack: string;
  readonly step: StepName;
  /** Reach the script as environment variables of the same name, which start with `TANDEM_`. */
  readonly values: Readonly<Record<string, string>>;
  /** Structured input: the script reads it as JSON from the file `$TANDEM_REQUEST`. */
  readonly document?: unknown;
  /** Reach the script on standard input as one JSON object, and nowhere else. */
  readonly secrets?: Readonly<Record<string, string>>;
  /** Limit of the whole step, in seconds. */
  readonly timeoutSeconds: number;
}

/** What `check` found out about one step on a host. */
export interface StepCheck {
  readonly step: StepName;
  readonly holds: boolean;
  /** Why it does not hold, for people. */
  readonly reason?: string;
  /** The repair token that the step was last applied with; see `docs/architecture.md`, "Drift". */
  readonly token: string;
}
