import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { hostScriptsDirectory, trainerDirectory } from "./package-root";

/** The scripts of one version, as they lie on a host. */
export interface HostScripts {
  /** SHA-256 of `SHA256SUMS`, which has one line a file as `sha256sum -c` reads them: the version, and the name of its folder. */
  readonly digest: string;
  /** All files as a compressed tar, with `SHA256SUMS`. */
  readonly archive: () => Buffer;
}

/** Files below one folder, by their names on the host. */
interface Part {
  readonly folder: string;
  readonly names: readonly string[];
}

/** The scripts of this package as they are now, the trainer's package in their folder `trainer`. */
export function hostScripts(): HostScripts {
  const scripts = hostScriptsDirectory();
  const parts: Part[] = [
    { folder: scripts, names: filesBelow(scripts, scripts, /\.(?:sh|py|awk|json|html)$/) },
    { folder: dirname(trainerDirectory()), names: trainerFiles() },
  ];
  const sums = parts
    .flatMap(({ folder, names }) => names.map((name) => `${sha256(readFileSync(join(folder, name)))}  ${name}\n`))
    .join("");
  return { digest: sha256(sums), archive: () => pack(parts, sums) };
}

function trainerFiles(): string[] {
  const trainer = trainerDirectory();
  return filesBelow(trainer, dirname(trainer), /tandem_trainer\/[^/]+\.py$|\/(requirements|overrides)[^/]*\.txt$/);
}

function filesBelow(folder: string, root: string, pattern: RegExp): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .filter((name) => pattern.test(name))
    .sort();
}

/** Owner, mode and times don't matter: the host takes none of them over. */
function pack(parts: readonly Part[], sums: string): Buffer {
  const folder = mkdtempSync(join(tmpdir(), "tandem-scripts-"));
  try {
    writeFileSync(join(folder, "SHA256SUMS"), sums);
    const files = [...parts, { folder, names: ["SHA256SUMS"] }].flatMap((part) => ["-C", part.folder, ...part.names]);
    return execFileSync("tar", ["-czf", "-", ...files], {
      // macOS would add a file for each file's attributes.
      env: { ...process.env, COPYFILE_DISABLE: "1" },
      maxBuffer: 64 * 1024 * 1024,
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function sha256(content: string | Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}
