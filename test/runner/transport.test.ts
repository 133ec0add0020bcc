import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { callTarget, type HostCall } from "../../bootstrap/runner/transport";
import { kill } from "../host/host";

const scripts = vi.hoisted(() => ({ folder: "" }));
vi.mock("../../bootstrap/runner/package-root", async (importOriginal) => ({
  ...(await importOriginal<object>()),
  hostScriptsDirectory: () => scripts.folder,
}));

beforeEach(() => {
  scripts.folder = mkdtempSync(path.join(tmpdir(), "tandem-transport-"));
});
afterEach(() => rmSync(scripts.folder, { recursive: true, force: true }));

const call = (script: string, more: Partial<HostCall> = {}) => {
  writeFileSync(path.join(scripts.folder, "facts.sh"), script);
  const whole: HostCall = { script: "facts.sh", argv: [], environment: {}, timeoutSeconds: 60, ...more };
  return callTarget({ kind: "local" }, whole);
};

describe("a script on this machine", () => {
  it("is answered with what it printed, line by line, and its exit status", async () => {
    const lines: string[] = [];
    const answer = await call("cat; echo one >&2; printf two >&2; exit 3\n", {
      stdin: "in",
      onLine: (l) => lines.push(l),
    });
    expect(answer).toEqual({ code: 3, stdout: "in", stderr: "one\ntwo" });
    expect(lines).toEqual(["one", "two"]);
  });

  it("is over at its limit, also when something that it started still holds its output", async () => {
    const other = path.join(scripts.folder, "other");
    const answer = await call(`echo begun; sleep 600 & echo $! >'${other}'; wait\n`, { timeoutSeconds: 3 });
    kill(Number(readFileSync(other, "utf8")));
    expect(answer).toMatchObject({ code: 124, stdout: "begun\n" });
  });
});
