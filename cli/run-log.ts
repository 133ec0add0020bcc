import { mkdirSync, openSync, readdirSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { EngineEvent } from "@pulumi/pulumi/automation";

/** How many logs of earlier runs are kept beside the newest. */
const KEPT_LOGS = 20;

/** The full record of one run: what the engine printed and every line of every step. For the user alone. */
export class RunLog {
  readonly path: string;
  private readonly descriptor: number;

  constructor(folder: string, command: string) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    removeOldLogs(folder);
    const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
    this.path = join(folder, `${time}-${command}.log`);
    this.descriptor = openSync(this.path, "a", 0o600);
  }

  /** Written at once, so that a killed run leaves all but its last moment. */
  write(text: string): void {
    writeSync(this.descriptor, text.endsWith("\n") ? text : `${text}\n`);
  }

  /** A diagnostic of the engine, with its step and in full. */
  writeEvent({ diagnosticEvent, timestamp }: EngineEvent): void {
    // Debug messages hold the values of resources, secrets included.
    if (diagnosticEvent === undefined || (diagnosticEvent.severity as string) === "debug") return;
    const time = new Date(timestamp * 1000).toISOString().slice(11, 19);
    const step = diagnosticEvent.urn?.split("::").at(-1) ?? "engine";
    this.write(`${time} ${step} ${diagnosticEvent.severity}: ${diagnosticEvent.message.trimEnd()}`);
  }
}

function removeOldLogs(folder: string): void {
  const logs = readdirSync(folder)
    .filter((name) => name.endsWith(".log"))
    .sort();
  for (const name of logs.slice(0, -KEPT_LOGS)) rmSync(join(folder, name), { force: true });
}
