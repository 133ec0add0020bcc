/** What each exit status of `tandem` means; documented in `docs/cli.md`. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  doesNotFit: 3,
  busy: 4,
  unhealthy: 5,
  interrupted: 130,
} as const;
export type ExitStatus = (typeof EXIT)[keyof typeof EXIT];

/** An end of the command that the user can act on: shown as its message alone, never with a stack trace. */
export class CommandError extends Error {
  constructor(
    message: string,
    readonly status: ExitStatus = EXIT.failed,
    /** What a script may want beside the message; part of the `--json` document. */
    readonly details: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
    this.name = "CommandError";
  }
}

/** `message` of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
