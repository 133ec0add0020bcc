import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../fixtures/free-port";

const run = promisify(execFile);
const root = path.resolve(__dirname, "../..");
const project = mkdtempSync(path.join(tmpdir(), "tandem-library-"));

/** What the preview of the example must create, by the engine's own events. */
interface Planned {
  readonly op: string;
  readonly type: string;
  readonly name: string;
}

async function inProject(command: string, args: string[], timeoutSeconds: number) {
  return run(command, args, { cwd: project, timeout: timeoutSeconds * 1000, maxBuffer: 16 << 20 });
}

function typeCheck(configuration: string) {
  return inProject(process.execPath, ["node_modules/typescript/bin/tsc", "-p", configuration], 120);
}

describe("the package, installed from its tarball into an empty project", () => {
  beforeAll(async () => {
    cpSync(path.join(root, "examples/library"), project, { recursive: true });
    cpSync(path.join(__dirname, "preview.cjs"), path.join(project, "preview.cjs"));
    const packed = await run("npm", ["pack", "--json", "--pack-destination", project], { cwd: root, timeout: 180_000 });
    // The build's own lines may come before the JSON.
    const [{ filename }] = JSON.parse(packed.stdout.slice(packed.stdout.indexOf("["))) as [{ filename: string }];
    await inProject("npm", ["install", "--no-audit", "--no-fund", "--prefer-offline", `./${filename}`], 300);
  }, 500_000);

  afterAll(() => rmSync(project, { recursive: true, force: true }));

  it("type-checks the example program against the shipped types", async () => {
    await typeCheck("tsconfig.json");
    expect(existsSync(path.join(project, "bin/index.js"))).toBe(true);
  });

  it("refuses a program whose arguments are wrong, so the types are not `any`", async () => {
    writeFileSync(
      path.join(project, "wrong.ts"),
      'import { ServingPair } from "@tandem/pulumi";\nnew ServingPair("x", { model: "m" });\n',
    );
    writeFileSync(path.join(project, "wrong.json"), '{ "extends": "./tsconfig.json", "files": ["wrong.ts"] }');
    await expect(typeCheck("wrong.json")).rejects.toMatchObject({
      stdout: expect.stringContaining("'model' does not exist in type"),
    });
  });

  it("previews new ServingPair(...) on the real engine and touches nothing", async () => {
    const state = path.join(project, "state");
    mkdirSync(state);
    const port = await freePort();
    const { stdout } = await inProject(process.execPath, ["preview.cjs", state, String(port)], 900);
    const planned = JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as Planned[];
    expect(planned.every(({ op }) => op === "create")).toBe(true);
    expect(planned).toContainEqual({ op: "create", type: "tandem:index:ServingPair", name: "chat" });
    const steps = planned.filter(({ type }) => type === "command:local:Command").map(({ name }) => name);
    expect(steps).toEqual(
      expect.arrayContaining(["chat-lease", "chat-runtime", "chat-weights", "chat-serving", "chat-proof"]),
    );
    expect(existsSync("/var/lib/tandem/stacks/library-test")).toBe(false);
  }, 1_000_000);
});
