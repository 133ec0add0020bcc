import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { hostScriptsDirectory } from "../../bootstrap/runner/package-root";

let host: string;
let stack: string;
beforeEach(() => {
  host = mkdtempSync(path.join(tmpdir(), "tandem-compare-"));
  stack = path.join(host, "stacks/ours");
  for (const name of ["ours", "other"]) mkdirSync(path.join(host, "stacks", name, "journal"), { recursive: true });
});
afterEach(() => rmSync(host, { recursive: true, force: true }));

type Fields = readonly string[];

/** Entries of a journal as "+ NUMBER STEP KIND NAME DETAIL", and "- NUMBER" for one that was struck out. */
function journal(name: string, entries: readonly Fields[]): void {
  const lines = entries.map((fields) => `\n${[...fields, "end"].join("\t")}\n`);
  writeFileSync(path.join(host, "stacks", name, "journal/entries"), lines.join(""));
}

/** What a sweep says of a host that had `before` at the lease and has `now`; the real scripts, with `now` for a look at a host. */
function compared(before: readonly Fields[], now: readonly Fields[], ports = ""): { status: number; said: string[] } {
  const listed = (things: readonly Fields[]) => things.map((fields) => `${fields.join("\t")}\n`).join("");
  writeFileSync(path.join(stack, "snapshot"), listed(before));
  const text = `
for part in journal journal-undo snapshot snapshot-compare; do . "$TANDEM_SCRIPTS_DIR/$part.sh"; done
say() { printf '%s\\n' "$1"; }
snapshot_now() { printf '%s' "$NOW"; }
ports="$PORTS"
status=0
snapshot_compare || status=$?
printf '%s' "$status"`;
  const environment = {
    PATH: process.env["PATH"],
    TANDEM_SCRIPTS_DIR: hostScriptsDirectory(),
    TANDEM_HOST_DIR: host,
    TANDEM_STACK_DIR: stack,
    NOW: listed(now),
    PORTS: ports,
  };
  const lines = execFileSync("sh", ["-eu", "-c", text], { env: environment, encoding: "utf8", timeout: 30_000 }).split(
    "\n",
  );
  return { status: Number(lines.pop()), said: lines };
}

describe("what differs from the time before the lease", () => {
  it("is ours, another stack's, left on purpose or others'", () => {
    journal("ours", [
      ["+", "1", "driver", "kept", "package raised:amd64", "an older version can't be had back"],
      ["+", "2", "driver", "package", "ours", "-"],
      ["+", "3", "driver", "package", "both", "-"],
      ["+", "4", "driver", "file", "/etc/a\\x2db.conf", "-"],
      ["-", "4"],
      ["+", "5", "serving", "unit", "tandem-serving.service", "-"],
      ["+", "6", "serving", "user", "tandem", "-"],
    ]);
    journal("other", [
      ["+", "1", "driver", "package", "both", "-"],
      ["+", "2", "driver", "package", "theirs-once", "-"],
      ["-", "2"],
    ]);
    const before = [
      ["package", "raised:amd64", "1"],
      ["package", "gone", "1"],
      ["unit", "system/tandem-serving.service", "f "],
    ];
    const now = [
      ["package", "raised:amd64", "2"],
      ["package", "ours:amd64", "1"],
      ["package", "both", "1"],
      ["package", "theirs-once", "1"],
      ["etc", "/etc/a\\x2db.conf", "644 root:root 0123"],
      [
        "etc",
        "/etc/systemd/system/multi-user.target.wants/tandem-serving.service",
        "link to ../tandem-serving.service",
      ],
      ["linger", "tandem", "on"],
      ["group", "tandem", "1000"],
      ["port", "8000", "listens"],
      ["port", "800", "listens"],
    ];
    const { status, said } = compared(before, now, "8000\n8001");
    expect(said).toEqual([
      "left on purpose: package raised:amd64: an older version can't be had back",
      "not taken back: etc /etc/a\\x2db.conf (new)",
      "not taken back: etc /etc/systemd/system/multi-user.target.wants/tandem-serving.service (new)",
      "changed by others meanwhile: group tandem (new)",
      "not taken back: linger tandem (new)",
      "left for another stack: package both",
      "changed by others meanwhile: package gone (gone)",
      "not taken back: package ours:amd64 (new)",
      "changed by others meanwhile: package theirs-once (new)",
      "changed by others meanwhile: port 800 (new)",
      "not taken back: port 8000 (new)",
    ]);
    expect(status).toBe(1);
  });

  it("is no failure when none of it is ours, also after an upgrade of everything", () => {
    journal("ours", [["+", "1", "driver", "package", "ours", "-"]]);
    const packages = (version: string) => Array.from({ length: 800 }, (_, index) => ["package", `p${index}`, version]);
    const { status, said } = compared(packages("1"), packages("2"));
    expect(said).toHaveLength(800);
    expect(new Set(said.map((line) => line.replace(/p\d+/, "P")))).toEqual(
      new Set(["changed by others meanwhile: package P (changed)"]),
    );
    expect(status).toBe(0);
  });

  it("is nothing on a host that is as it was", () => {
    expect(compared([["package", "a", "1"]], [["package", "a", "1"]])).toEqual({ status: 0, said: [] });
  });
});
