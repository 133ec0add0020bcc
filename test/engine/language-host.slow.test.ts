import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runPlainPulumi } from "../fixtures/language-host";

const programs = path.join(__dirname, "../fixtures/language-host/program");

let folder: string;
let projectDir: string;
beforeAll(() => {
  // Inside the package, so that the program finds the SDK as a user's program does.
  folder = mkdtempSync(path.join(tmpdir(), "tandem-plain-"));
  projectDir = path.join(programs, "..", `.run-${path.basename(folder)}`);
  cpSync(programs, projectDir, { recursive: true });
});
afterAll(() => {
  for (const used of [folder, projectDir]) rmSync(used, { recursive: true, force: true });
});

function pulumi(...args: string[]) {
  const env = { PULUMI_BACKEND_URL: `file://${folder}`, PULUMI_CONFIG_PASSPHRASE: "test" };
  return runPlainPulumi({ projectDir, args, env });
}

test("plain pulumi runs a TypeScript program on disk from up to destroy", async () => {
  expect(await pulumi("stack", "select", "--create", "dev")).toMatchObject({ status: 0 });
  await pulumi("config", "set", "greeting", "hello from disk");
  await pulumi("config", "set", "--secret", "key", "canary-key");
  const preview = await pulumi("preview");
  expect(preview, preview.stderr).toMatchObject({ status: 0 });
  const up = await pulumi("up", "--yes", "--skip-preview");
  expect(up, up.stdout + up.stderr).toMatchObject({ status: 0 });
  const outputs = JSON.parse((await pulumi("stack", "output", "--json")).stdout) as unknown;
  expect(outputs).toEqual({ said: "hello from disk", isPreview: false, folder: path.join(projectDir, "program") });
  expect((await pulumi("stack", "export")).stdout).not.toContain("canary-key");
  expect((await pulumi("preview", "--expect-no-changes")).status).toBe(0);
  await pulumi("config", "set", "greeting", "changed");
  expect((await pulumi("preview", "--expect-no-changes")).status).not.toBe(0);
  expect(await pulumi("destroy", "--yes", "--skip-preview")).toMatchObject({ status: 0 });
});

test("a program that says why it can't go on fails the run with its words and no stack trace", async () => {
  await pulumi("stack", "select", "--create", "broken");
  await pulumi("config", "set", "fail", "true");
  const { status, stdout } = await pulumi("preview");
  expect(status).not.toBe(0);
  expect(stdout).toContain("the program was told to fail");
  expect(stdout).not.toContain("index.ts:");
});
