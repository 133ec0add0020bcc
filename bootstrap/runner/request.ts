/** How the runner reaches a host. SSH joins here. */
export type HostTarget = { readonly kind: "local" };

/**
 * The names of the host steps, each a script `bootstrap/host/<step>.sh` with `check`, `apply` and `undo`,
 * in the order in which they are applied.
 */
export const STEP_NAMES = ["lease", "runtime", "weights", "serving", "proof"] as const;
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
