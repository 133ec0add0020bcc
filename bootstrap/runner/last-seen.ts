import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { HostFacts } from "../../plan/facts";
import type { ModelShape } from "../../plan/model-shape";
import type { HostTarget } from "./request";
import { stateFolder } from "./state-folder";
import { targetName } from "./targets";

/** What a host was when it last answered: what a run goes on when the host can't be asked. */
export interface LastSeen {
  readonly facts: HostFacts;
  /** Of the model that was planned then; `model` and `revision` as the settings had them. */
  readonly shape?: { readonly model: string; readonly revision: string; readonly shape: ModelShape };
}

/** Undefined when the host was never seen by this user, or the record can't be read. */
export function lastSeen(target: HostTarget, stack: string): LastSeen | undefined {
  try {
    return JSON.parse(readFileSync(fileOf(target, stack), "utf8")) as LastSeen;
  } catch {
    return undefined;
  }
}

/** Keeps what was seen. Convenience only: a folder that can't be written to costs nothing but the convenience. */
export function keepLastSeen(target: HostTarget, stack: string, seen: LastSeen): void {
  const file = fileOf(target, stack);
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(`${file}.${process.pid}`, JSON.stringify(seen), { mode: 0o600 });
    renameSync(`${file}.${process.pid}`, file);
  } catch {
    // The next run asks the host anyway.
  }
}

function fileOf(target: HostTarget, stack: string): string {
  const destination = target.kind === "local" ? "" : `${target.user ?? ""}@${target.host}:${target.port ?? ""}`;
  const mark = createHash("sha256").update(destination).digest("hex").slice(0, 8);
  return join(stateFolder(), "hosts", `${stack}-${targetName(target)}-${mark}.json`);
}
