import { renameSync, writeFileSync } from "node:fs";

/** Writes a file that appears with its content or not at all, readable by the user alone. */
export function writeWhole(path: string, content: string): void {
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, content, { mode: 0o600 });
  renameSync(draft, path);
}
