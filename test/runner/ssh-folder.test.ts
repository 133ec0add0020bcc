import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { connectionFiles } from "../../bootstrap/runner/ssh-folder";
import type { SshTarget } from "../../bootstrap/runner/request";

describe("the files of a connection", () => {
  const target: SshTarget = {
    kind: "ssh",
    name: "one",
    host: "192.0.2.1",
    hostKeys: "known-hosts",
    sudo: "auto",
    user: undefined,
    jumpHost: undefined,
  };
  let home: string;
  beforeEach(() => {
    home = mkdtempSync(path.join(tmpdir(), "tandem-ssh-"));
    vi.stubEnv("TANDEM_HOME", home);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(home, { recursive: true });
  });

  it("are the same for a step's runner, which is told of the host as JSON, so that it uses the program's connection", () => {
    const told = JSON.parse(JSON.stringify(target)) as SshTarget;
    expect(connectionFiles(told)).toEqual(connectionFiles(target));
    expect(connectionFiles({ ...told, name: "another name" })).toEqual(connectionFiles(target));
  });

  it("are others for another user, and for other rules about the host's key", () => {
    expect(connectionFiles({ ...target, user: "ops" }).socket).not.toBe(connectionFiles(target).socket);
    expect(connectionFiles({ ...target, hostKey: "SHA256:x" }).socket).not.toBe(connectionFiles(target).socket);
  });
});
