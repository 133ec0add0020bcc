import { spawnSync } from "node:child_process";
import * as path from "node:path";

/** Brings `dist/` up to date once, before any test starts the command or loads the package. */
export default function build(): void {
  const script = path.join(__dirname, "../../scripts/build.sh");
  const { status } = spawnSync("sh", [script], { stdio: ["ignore", "inherit", "inherit"], timeout: 180_000 });
  // The compiler writes its output in spite of type errors; `make check` is where those fail.
  if (status !== 0) console.warn("The build reported errors; tests run against what it wrote.");
}
