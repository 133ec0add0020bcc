import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { hostScriptsDirectory, trainerDirectory } from "./package-root";

/** The scripts of one version, as they lie on a host. */
export interface HostScripts {
  /** SHA-256 of `sums`: the version, and the name of its folder. */
  readonly digest: string;
  /** One line a file, as `sha256sum -c` reads them. */
  readonly sums: string;
  /** All files as a compressed tar. */
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
  return { digest: sha256(sums), sums, archive: () => pack(parts) };
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
function pack(parts: readonly Part[]): Buffer {
  const files = parts.flatMap(({ folder, names }) => ["-C", folder, ...names]);
  return execFileSync("tar", ["-czf", "-", ...files], {
    // macOS would add a file for each file's attributes.
    env: { ...process.env, COPYFILE_DISABLE: "1" },
    maxBuffer: 64 * 1024 * 1024,
  });
}

function sha256(content: string | Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}
