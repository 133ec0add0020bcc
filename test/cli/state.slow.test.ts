import { existsSync, readFileSync, rmSync } from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../fixtures/free-port";
import { TandemHome } from "./fixtures/tandem";

describe("what the commands keep", () => {
  const tandem = new TandemHome();
  const workspace = path.join(tandem.home, "workspace/ci");
  const passphrase = path.join(tandem.home, "passphrase");
  let preview: readonly string[] = [];
  beforeAll(async () => {
    preview = ["preview", "--env", "ci", "--json", "--port", String(await freePort())];
  });
  afterAll(() => tandem.remove());

  it("previews every step of a first up, and leaves no stack and no change of settings behind", () => {
    const { status, stdout } = tandem.run(preview);
    expect(status).toBe(0);
    const { changes } = JSON.parse(stdout) as { changes: { step: string; action: string }[] };
    const steps = ["gateway", "key", "lease", "proof", "runtime", "serving", "upstream-key", "weights"];
    expect(changes.map(({ step }) => step).sort()).toEqual(steps);
    expect(new Set(changes.map(({ action }) => action))).toEqual(new Set(["create"]));
    expect(existsSync(path.join(tandem.home, "backend/.pulumi/stacks/tandem/ci.json"))).toBe(false);
    expect(readFileSync(path.join(workspace, "Pulumi.ci.yaml"), "utf8")).toMatch(/tandem:port: "?8000/);
  });

  it("uses another backend for one run without remembering it", () => {
    const { status, stdout } = tandem.run([...preview, "--backend", `file://${tandem.folder}/nowhere`]);
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, error: { message: expect.stringContaining("nowhere") } });
    expect(readFileSync(path.join(workspace, "Pulumi.yaml"), "utf8")).not.toContain("nowhere");
  });

  it("says that nothing is up, by status 5", () => {
    const { status, stdout } = tandem.run(["status", "--env", "ci"]);
    expect(status).toBe(5);
    expect(stdout).toContain("environment ci is not up — fix: tandem up --env ci");
  });

  it("finds nothing to destroy, and succeeds", () => {
    const { status, stdout } = tandem.run(["destroy", "--env", "ci", "--yes"]);
    expect(status).toBe(0);
    expect(stdout).toContain("nothing to destroy in environment ci");
    expect(existsSync(path.join(workspace, "Pulumi.ci.yaml"))).toBe(true);
  });

  it("goes on without a lost passphrase only after destroy --forget", () => {
    rmSync(passphrase);
    const lost = tandem.run(preview);
    expect(lost.status).toBe(2);
    expect(lost.stdout).toContain("tandem destroy --forget");
    expect(existsSync(passphrase)).toBe(false);
    expect(tandem.run(["destroy", "--env", "ci", "--yes", "--forget"]).status).toBe(0);
    expect(tandem.run(preview).status).toBe(0);
    expect(existsSync(passphrase)).toBe(true);
  });
});
