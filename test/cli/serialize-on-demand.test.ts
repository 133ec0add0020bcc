import { execFileSync } from "node:child_process";
import * as path from "node:path";
import { expect, it } from "vitest";

const root = path.resolve(__dirname, "../..");

/** Prints whether TypeScript and arborist are loaded, before and after a function was serialized, and what that gave. */
const PROGRAM = `
  require("./dist/cli/serialize-on-demand.js").serializeOnDemand();
  const pulumi = require("@pulumi/pulumi");
  const loaded = () => ["/typescript.js", "/arborist/index.js"].map((end) => Object.keys(require.cache).some((file) => file.endsWith(end)));
  const atStart = loaded();
  const number = 41;
  const { computeCodePaths } = require("@pulumi/pulumi/runtime");
  Promise.all([pulumi.runtime.serializeFunction(() => number + 1), computeCodePaths()]).then(([{ text }]) =>
    console.log(JSON.stringify({ atStart, after: loaded(), text })),
  );
`;

it("Pulumi's SDK loads what serializes functions when a function is serialized, and then it works", () => {
  const output = execFileSync(path.join(root, "bin/node22"), ["-e", PROGRAM], { cwd: root, encoding: "utf8" });
  const { atStart, after, text } = JSON.parse(output) as { atStart: boolean[]; after: boolean[]; text: string };
  expect(atStart).toEqual([false, false]);
  expect(after).toEqual([true, true]);
  expect(text).toContain("return () => number + 1");
});
