import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { hostScriptsDirectory } from "./package-root";

/** The scripts of one version, as they lie on a host. */
export interface HostScripts {
  /** SHA-256 of `sums`: the version, and the name of its folder. */
  readonly digest: string;
  /** One line a file, as `sha256sum -c` reads them. */
  readonly sums: string;
  /** All files as a compressed tar. */
  readonly archive: () => Buffer;
}

/** The scripts of this package as they are now. */
export function hostScripts(): HostScripts {
  const folder = hostScriptsDirectory();
  const names = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(?:sh|py|awk|json)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
  const sums = names.map((name) => `${sha256(readFileSync(join(folder, name)))}  ${name}\n`).join("");
  return { digest: sha256(sums), sums, archive: () => pack(folder, names) };
}

/** Owner, mode and times don't matter: the host takes none of them over. */
function pack(folder: string, names: readonly string[]): Buffer {
  return execFileSync("tar", ["-C", folder, "-czf", "-", "--", ...names], {
    // macOS would add a file for each file's attributes.
    env: { ...process.env, COPYFILE_DISABLE: "1" },
    maxBuffer: 64 * 1024 * 1024,
  });
}

function sha256(content: string | Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}
