import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { attacks, FLOODS } from "./attacks";
import { ATTACKS_PAGE, cell } from "./attacks-page";

it("docs/attacks.md has a green row for every attack, and no other", () => {
  const rows = readFileSync(ATTACKS_PAGE, "utf8")
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) => /^\| (`.*`) \| (?:\d{3}|closed) \| (\w+) \|$/.exec(line)?.slice(1));
  const [all, ...others] = rows.map((row) => row?.[0] ?? "");
  expect(all).toMatch(/^`every other route of vLLM and the trainer.*: \d{4} requests`$/);
  const names = [...attacks("x").map(({ name }) => name), ...Object.values(FLOODS)];
  expect(others).toEqual(names.map(cell));
  expect(rows.filter((row) => row?.[1] !== "ok")).toEqual([]);
});
