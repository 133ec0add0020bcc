import { existsSync, readFileSync } from "node:fs";
import * as path from "node:path";
import { describe, expect, it } from "vitest";
import { CASES, keyOf, keyOfCells, requireClear, rowsOfPage } from "./faults-cases";
import { ELSEWHERE } from "./faults-elsewhere";

const root = path.resolve(__dirname, "../..");

describe("docs/faults.md", () => {
  it("has a row for every case that the tests make happen, and no other", () => {
    const rows = rowsOfPage().map((cells) => `${keyOfCells(cells)} / ${cells[6] ?? ""}`);
    const cases = [...CASES, ...ELSEWHERE].map((one) => `${keyOf(one)} / ${one.file}`);
    expect(rows.toSorted()).toEqual(cases.toSorted());
  });

  it("has no red row, and says of each how it ended", () => {
    const wrong = rowsOfPage().filter(([, , message, ended, , result]) => !message || !ended || result !== "ok");
    expect(wrong).toEqual([]);
  });

  it.each(ELSEWHERE)("names a test that is there: $fault, $step", ({ file, title }) => {
    expect(existsSync(path.join(root, file)), file).toBe(true);
    expect(readFileSync(path.join(root, file), "utf8")).toContain(JSON.stringify(title).slice(1, -1));
  });
});

describe("a message of a fault", () => {
  const clear = "runtime failed on h1 (10.0.0.1): the disk is full — fix: free some space";
  it.each([
    ["without the host", clear.replace("h1", "it"), "does not name the host h1"],
    ["without a way out", clear.replace("fix:", ""), "does not say what to do"],
    ["with a stack trace", `${clear}\n    at main (/x/y.js:1:2)`, "holds a stack trace"],
    ["with the key", `${clear} tdm-canary`, "holds a secret"],
  ])("is not clear %s", (_what, message, why) => {
    expect(() => requireClear(clear, "h1", "tdm-canary")).not.toThrow();
    expect(() => requireClear(message, "h1", "tdm-canary")).toThrow(why);
  });
});
