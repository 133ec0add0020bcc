import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join, posix, relative } from "node:path";
import { ARCHIVE_SIGNATURE, ASSET_SIGNATURE, SIGNATURE_KEY, type Value } from "./values";

/**
 * The files below `folder` that the patterns choose, each as an asset under its path. Later patterns win; one that starts
 * with `!` leaves out. `*` matches within a path's part, `**` across parts.
 */
export function collectAssets(folder: string, patterns: readonly string[]): Record<string, Value> {
  const rules = patterns.map((pattern) => ({
    leavesOut: pattern.startsWith("!"),
    matches: toExpression(pattern.replace(/^!/, "")),
  }));
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .filter((path) => rules.findLast(({ matches }) => matches.test(path))?.leavesOut === false);
  return Object.fromEntries(files.sort().map((path) => [path, toAsset(posix.join(folder, path))]));
}

/** All chosen files as one archive. */
export function collectArchive(folder: string, patterns: readonly string[]): Value {
  return { [SIGNATURE_KEY]: ARCHIVE_SIGNATURE, assets: collectAssets(folder, patterns) };
}

function toAsset(path: string): Value {
  const hash = createHash("sha256").update(readFileSync(path)).digest("hex");
  return { [SIGNATURE_KEY]: ASSET_SIGNATURE, path, hash };
}

/** Pulumi's documented pattern language: `*`, `**`, `?`, `[abc]`, `[!abc]`, `{one,other}`, `\` before a literal. */
function toExpression(pattern: string): RegExp {
  let depth = 0;
  const source = pattern.replaceAll(/\\.|\*\*|\*|\?|\[!?[^\]]+\]|[{},]|[.+^$()|[\]]/g, (token) => {
    switch (token) {
      case "**":
        return ".*";
      case "*":
        return "[^/]*";
      case "?":
        return "[^/]";
      case "{":
        depth++;
        return "(?:";
      case "}":
        depth--;
        return ")";
      case ",":
        return depth > 0 ? "|" : ",";
      default:
        if (token.startsWith("[") && token.length > 1) return token.replace(/^\[!/, "[^");
        return token.startsWith("\\") ? token : `\\${token}`;
    }
  });
  return new RegExp(`^${source}$`, "s");
}
