import { cpSync, existsSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { sweepHost } from "../../bootstrap/runner/host";
import { outputsSchema } from "../../stacks/outputs";
import { freePort } from "../fixtures/free-port";
import { runPlainPulumi } from "../fixtures/language-host";

const root = path.resolve(__dirname, "../..");
const STACK = "plain";
/** What a clone holds, as far as the program reads it; `dist/` is what `npm run build` makes. */
const PROJECT = [
  "plan",
  "bootstrap",
  "components",
  "stacks",
  "bin",
  "dist",
  "package.json",
  "tsconfig.json",
  "Pulumi.yaml",
];
const UP_LIMIT_MILLISECONDS = 1_500_000;

let folder: string;
let project: string;
let chatPort: number;

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "tandem-plain-"));
  project = path.join(folder, "clone");
  for (const name of PROJECT) cpSync(path.join(root, name), path.join(project, name), { recursive: true });
  symlinkSync(path.join(root, "node_modules"), path.join(project, "node_modules"));
  chatPort = await freePort();
});
afterEach(async () => {
  process.env["TANDEM_HOME"] = path.join(folder, "home");
  await sweepHost({ kind: "local" }, STACK);
  delete process.env["TANDEM_HOME"];
  rmSync(folder, { recursive: true, force: true });
});

async function pulumi(...args: string[]) {
  const env = {
    PULUMI_BACKEND_URL: `file://${folder}`,
    PULUMI_CONFIG_PASSPHRASE: "test",
    TANDEM_HOME: path.join(folder, "home"),
  };
  const result = await runPlainPulumi({ projectDir: project, args: [...args, "--stack", STACK], env });
  return { ...result, text: result.stdout + result.stderr + result.programOutput };
}

test(
  "plain pulumi takes the project's own program from bad settings to a served model and back",
  async () => {
    cpSync(path.join(project, "stacks/Pulumi.ci.yaml"), path.join(project, `stacks/Pulumi.${STACK}.yaml`));
    expect(await pulumi("stack", "init")).toMatchObject({ status: 0 });

    await pulumi("config", "set", "tandem:tensorParallel", "2");
    await pulumi("config", "set", "tandem:modle", "x");
    const refused = await pulumi("preview");
    expect(refused.status).not.toBe(0);
    expect(refused.text).toMatch(/modle.*model/);
    expect(refused.text).not.toMatch(/\.ts:\d+:\d+/);
    await pulumi("config", "rm", "tandem:modle");
    await pulumi("config", "rm", "tandem:tensorParallel");
    await pulumi("config", "set", "tandem:port", String(chatPort));

    const up = await pulumi("up", "--yes", "--skip-preview");
    expect(up, up.text).toMatchObject({ status: 0 });
    const shown = JSON.parse((await pulumi("stack", "output", "--json", "--show-secrets")).stdout) as unknown;
    const outputs = outputsSchema.parse(shown);
    expect(outputs.health.status).toBe("healthy");
    expect(up.text).not.toContain(outputs.apiKey);
    const response = await fetch(outputs.endpoints.models, { headers: { authorization: `Bearer ${outputs.apiKey}` } });
    expect(response.status).toBe(200);

    const quiet = await pulumi("preview", "--expect-no-changes");
    expect(quiet, quiet.text).toMatchObject({ status: 0 });
    const destroyed = await pulumi("destroy", "--yes", "--skip-preview");
    expect(destroyed, destroyed.text).toMatchObject({ status: 0 });
    await expect(fetch(outputs.endpoints.models)).rejects.toThrow();
    expect(existsSync(path.join(folder, "home/host"))).toBe(false);
  },
  UP_LIMIT_MILLISECONDS,
);
