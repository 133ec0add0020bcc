import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const PACKAGE_NAME = "@tandem/pulumi";

/** The folder of this package, found upwards from this file: it lies at another depth in `dist/` than in the sources. */
export function packageRoot(): string {
  for (let folder = __dirname; ; folder = dirname(folder)) {
    const manifest = join(folder, "package.json");
    if (
      existsSync(manifest) &&
      (JSON.parse(readFileSync(manifest, "utf8")) as { name?: string }).name === PACKAGE_NAME
    ) {
      return folder;
    }
    if (folder === dirname(folder)) throw new Error(`package ${PACKAGE_NAME} not found above ${__dirname}`);
  }
}

/** The folder of the trainer's package, `bootstrap/trainer`. */
export function trainerDirectory(): string {
  return join(packageRoot(), "bootstrap", "trainer");
}

/** The folder of the host scripts, `bootstrap/host`. */
export function hostScriptsDirectory(): string {
  return join(packageRoot(), "bootstrap", "host");
}
