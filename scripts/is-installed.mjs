// Exits with 0 when node_modules holds every package of package-lock.json in its version. Packages for other
// platforms, which are optional, may be absent.
import { readFileSync } from "node:fs";

function packagesOf(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8")).packages;
  } catch {
    return {};
  }
}

const wanted = Object.entries(packagesOf("package-lock.json")).filter(([path]) => path !== "");
const present = packagesOf("node_modules/.package-lock.json");
const missing = wanted.filter(([path, { version, optional }]) =>
  present[path] ? present[path].version !== version : !optional,
);
process.exit(wanted.length > 0 && missing.length === 0 ? 0 : 1);
