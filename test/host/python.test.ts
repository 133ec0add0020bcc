import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import * as path from "node:path";
import { expect, it } from "vitest";
import { HOST_SCRIPTS } from "./host";

const sources = readdirSync(HOST_SCRIPTS)
  .filter((name) => name.endsWith(".py"))
  .map((name) => path.join(HOST_SCRIPTS, name));

/** Parses with the grammar of Python 3.9, and lists modules that are neither ours nor of the standard library. */
const LOOK = `
import ast, pathlib, sys
known = sys.stdlib_module_names | {pathlib.Path(file).stem for file in sys.argv[1:]}
for file in sys.argv[1:]:
    tree = ast.parse(pathlib.Path(file).read_text(), file, feature_version=(3, 9))
    for node in tree.body:
        names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.split(".")[0] not in known: print(pathlib.Path(file).name, name)
`;

it("the host's Python is written for 3.9 and imports nothing but the standard library when it starts", () => {
  expect(sources.length).toBeGreaterThan(5);
  expect(execFileSync("python3", ["-c", LOOK, ...sources], { encoding: "utf8" })).toBe("");
});
