import { EXIT, type ExitStatus } from "./exit";

/** What a command has to say at its end: one text for people, or one document for programs. */
export interface Report {
  readonly status: ExitStatus;
  /** The `--json` document, without the fields that every one has. */
  readonly document: Readonly<Record<string, unknown>>;
  /** For standard output; empty when nothing is left to say. */
  readonly text: string;
}

export function success(document: Readonly<Record<string, unknown>>, text: string): Report {
  return { status: EXIT.ok, document, text };
}

/** Version of the `--json` documents; raised when a field changes its meaning or goes away. */
const JSON_VERSION = 1;

/** The one JSON document of a command. */
export function toJson(command: string, status: ExitStatus, document: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(
    { version: JSON_VERSION, command, ok: status === EXIT.ok, exitStatus: status, ...document },
    null,
    2,
  );
}
