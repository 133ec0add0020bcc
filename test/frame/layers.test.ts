import { ESLint } from "eslint";
import * as path from "node:path";
import tseslint from "typescript-eslint";
import { describe, expect, it } from "vitest";

const root = path.resolve(__dirname, "../..");
// Without the rules that need types: loading the whole program takes seconds, and no layer rule asks for it.
const untyped = {
  "@pulumi/no-output-in-template-literal": "off",
  "@pulumi/no-output-instance-in-template-literal": "off",
} as const;
const eslint = new ESLint({ cwd: root, overrideConfig: [tseslint.configs.disableTypeChecked, { rules: untyped }] });

/** What ESLint says about `code` if it stood in this file of the project. */
async function findings(file: string, code: string): Promise<string[]> {
  const [result] = await eslint.lintText(code, { filePath: path.join(root, file) });
  return (result?.messages ?? []).map(({ ruleId }) => ruleId ?? "parse error");
}

const IMPORTS = "@typescript-eslint/no-restricted-imports";

describe("the layer rule", { timeout: 60_000 }, () => {
  it.each([
    ["plan/problem.ts", 'export { output } from "@pulumi/pulumi";', IMPORTS],
    ["plan/problem.ts", 'export { readFileSync } from "node:fs";', IMPORTS],
    ["plan/problem.ts", 'export { readFileSync } from "fs";', IMPORTS],
    ["plan/problem.ts", 'export { STEP_NAMES } from "../bootstrap/runner/request";', IMPORTS],
    ["plan/problem.ts", 'export const home = process.env["HOME"];', "no-restricted-globals"],
    ["plan/problem.ts", "export const now = new Date();", "no-restricted-syntax"],
    ["bootstrap/runner/request.ts", 'export { HostStep } from "../../components/host-step";', IMPORTS],
    ["bootstrap/runner/request.ts", 'export { ensureEngine } from "../engine";', IMPORTS],
    ["bootstrap/engine/index.ts", 'export { formatProblem } from "../../plan/problem";', IMPORTS],
    ["components/index.ts", 'export { buildOutputs } from "../stacks/outputs";', IMPORTS],
    ["components/serving-pair.ts", 'export { local } from "@pulumi/command";', IMPORTS],
    ["stacks/outputs.ts", 'export { EXIT } from "../cli/exit";', IMPORTS],
    ["cli/exit.ts", 'export { default } from "../test/setup/guard";', IMPORTS],
  ])("refuses in %s: %s", async (file, code, rule) => {
    expect(await findings(file, code)).toContain(rule);
  });

  it.each([
    ["plan/problem.ts", 'export { z } from "zod";'],
    ["plan/problem.ts", 'export type { GpuFacts } from "./facts";'],
    ["bootstrap/runner/request.ts", 'export { formatProblem } from "../../plan/problem";'],
    ["components/host-step.ts", 'export { local } from "@pulumi/command";'],
    ["cli/exit.ts", 'export { formatProblem } from "../plan/problem";'],
  ])("allows in %s: %s", async (file, code) => {
    expect(await findings(file, code)).toEqual([]);
  });
});
