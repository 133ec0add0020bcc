import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { clearStaleLocks } from "../../cli/backend";
import type { Environment } from "../../cli/environments";

describe("the locks of Pulumi's own in a folder of state", () => {
  let folder: string;
  let locks: string;
  const said: string[] = [];
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "tandem-locks-"));
    locks = path.join(folder, ".pulumi/locks/organization/tandem/probe");
    mkdirSync(locks, { recursive: true });
    said.length = 0;
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const clear = () => {
    const backend = { url: pathToFileURL(folder).href, source: "--backend" } as const;
    const environment: Environment = {
      name: "probe",
      folder: path.join(folder, "workspace"),
      file: path.join(folder, "Pulumi.probe.yaml"),
      source: { kind: "preset", path: path.join(folder, "Pulumi.probe.yaml") },
      logs: folder,
    };
    return clearStaleLocks(backend, environment, (line) => said.push(line));
  };
  const lockOf = (pid: number) =>
    JSON.stringify({ pid, username: "me", hostname: hostname(), timestamp: new Date().toISOString() });

  it("are cleared when their holder was killed, and pass when it has let go by the time they are read", async () => {
    // Listed, and nothing when it is read: the same as one that goes in between.
    symlinkSync("gone", path.join(locks, "a.json"));
    // The highest number that Linux gives a process is 2^22.
    writeFileSync(path.join(locks, "b.json"), lockOf(2 ** 22 + 1));
    await clear();
    expect(said).toEqual([expect.stringContaining("locked by process 4194305 of ")]);
    expect(readdirSync(locks)).toEqual(["a.json"]);
  });

  it("are respected while their holder lives", async () => {
    writeFileSync(path.join(locks, "a.json"), lockOf(process.pid));
    await expect(clear()).rejects.toThrow(String(process.pid));
    expect(readdirSync(locks)).toEqual(["a.json"]);
  });
});
