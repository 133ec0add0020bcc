import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { CommandError } from "../../cli/exit";
import { OperationLock } from "../../cli/operation-lock";
import { thisProcess } from "../../cli/processes";

describe("the lock of an environment", () => {
  let folder: string;
  const said: string[] = [];
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "tandem-lock-"));
    said.length = 0;
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const take = () => OperationLock.take(folder, "up", (line) => said.push(line));
  const heldBy = (holder: object) => {
    const since = "2026-11-25T08:00:00.000Z";
    writeFileSync(path.join(folder, "lock"), JSON.stringify({ command: "up", host: hostname(), since, ...holder }));
  };

  it("is held once and free again after release", () => {
    const lock = take();
    expect(take).toThrow(CommandError);
    expect(OperationLock.holder(folder)).toMatch(/^tandem up \(process \d+, since /);
    lock.release();
    expect(OperationLock.holder(folder)).toBeUndefined();
    take().release();
    expect(said).toEqual([]);
  });

  it("is taken over from a process that is dead, aloud", () => {
    // The highest number that Linux gives a process is 2^22.
    heldBy({ processId: 2 ** 22 + 1, startTicks: "1" });
    take().release();
    expect(said).toEqual([expect.stringMatching(/process 4194305\) was killed: its lock is cleared$/)]);
  });

  it("is taken over when another process got the dead one's number", () => {
    heldBy({ processId: process.pid, startTicks: `${Number(thisProcess().startTicks) - 1}` });
    take().release();
    expect(said).toHaveLength(1);
  });

  it("is respected when its holder runs on another machine, where nobody can look", () => {
    heldBy({ processId: 2 ** 22 + 1, startTicks: "1", host: "elsewhere" });
    expect(take).toThrow(/process 4194305 on elsewhere/);
    expect(readFileSync(path.join(folder, "lock"), "utf8")).toContain("elsewhere");
  });
});
