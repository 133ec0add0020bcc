import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { inOwnProcess } from "./own-process";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "tandem-lock-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const run = (script: string) => inOwnProcess(script, { folder, PATH: "" });

describe("two runs at once", () => {
  const work = (name: string, milliseconds: number) =>
    `require("./dist/bootstrap/engine/cache").withLock(() => {}, async () => {
      console.log("${name} " + Date.now());
      await new Promise((resolve) => setTimeout(resolve, ${milliseconds}));
      console.log("end " + Date.now());
    })`;
  const timeOf = (lines: readonly string[], index: number) => Number(lines[index]!.split(" ")[1]);

  test("work one after the other", async () => {
    const [one, other] = await Promise.all([run(work("a", 800)), run(work("b", 800))]);
    const [first, second] = [one.lines, other.lines].sort((left, right) => timeOf(left, 0) - timeOf(right, 0));
    expect(timeOf(second!, 0)).toBeGreaterThanOrEqual(timeOf(first!, 1));
  });

  test("take over from one that was killed", { timeout: 60_000 }, async () => {
    const { error } = await run(`${work("a", 60_000)}; setTimeout(() => process.kill(process.pid, "SIGKILL"), 500)`);
    expect(error).toBe("");
    expect(existsSync(path.join(folder, "cache/tandem/engine/lock"))).toBe(true);
    const started = Date.now();
    const { lines } = await run(work("b", 0));
    expect(timeOf(lines, 0) - started).toBeLessThan(25_000);
  });
});
