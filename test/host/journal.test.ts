import { appendFileSync, chmodSync, existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { answerOf, read, TestHost, until } from "./host";

/** A step that changes what its document names, each written down before: the real journal, no undo of its own. */
const CHANGING_STEP = `
. "$TANDEM_SCRIPTS_DIR/common.sh"
. "$TANDEM_SCRIPTS_DIR/journal.sh"
case "$1" in
  apply)
    read_document
    journal_add dir "$doc_root/made"
    mkdir -p "$doc_root/made"
    journal_add dir "$doc_root/tree" tree
    mkdir -p "$doc_root/tree/deep"
    journal_add file "$doc_root/made/new"
    echo new >"$doc_root/made/new"
    journal_add file "$doc_root/there"
    echo ours >"$doc_root/there"
    chmod 644 "$doc_root/there"
    journal_add kept "a driver" "asked to keep it"
    sleep "\${doc_sleep:-0}"
    journal_list >"$doc_root/listed"
    echo '{}'
    ;;
esac
exit 0
`;

let host: TestHost;
let root: string;
beforeEach(() => {
  host = new TestHost({ change: CHANGING_STEP });
  root = path.join(host.root, "etc");
  mkdirSync(root);
  writeFileSync(path.join(root, "there"), "theirs\n");
  chmodSync(path.join(root, "there"), 0o640);
});
afterEach(() => host.close());

const inRoot = (name: string) => path.join(root, name);
const entries = () => path.join(host.stackDir, "journal/entries");

function expectAsItWas(): void {
  expect(existsSync(inRoot("made"))).toBe(false);
  expect(existsSync(inRoot("tree"))).toBe(false);
  expect(read(inRoot("there"))).toBe("theirs\n");
  expect(statSync(inRoot("there")).mode & 0o777).toBe(0o640);
}

describe("the journal", () => {
  it("takes back what a step wrote down, newest first, with content and mode", async () => {
    expect((await host.run(["apply", "change"], { document: { root } })).code).toBe(0);
    expect(read(inRoot("there"))).toBe("ours\n");
    expect((await host.run(["undo", "change"])).code).toBe(0);
    expectAsItWas();
  });

  it("writes the same change down once, however often the step is applied", async () => {
    for (const sleep of ["0", "0.01"]) await host.run(["apply", "change"], { document: { root, sleep } });
    const kinds = read(inRoot("listed"))
      .trim()
      .split("\n")
      .map((line) => line.split("\t")[2]);
    expect(kinds).toEqual(["dir", "dir", "file", "file", "kept"]);
    await host.run(["undo", "change"]);
    expectAsItWas();
  });

  it("lets the sweep take back a step that was killed in the middle, and names what stays on purpose", async () => {
    const answer = answerOf(host.start(["apply", "change"], { document: { root, sleep: "30" } }));
    await until("the changes are made", () => read(entries()).includes("a driver"));
    const swept = await host.run(["sweep"]);
    expect(swept.code).toBe(0);
    expect(swept.stderr).toContain("left on purpose: a driver: asked to keep it\n");
    expectAsItWas();
    await answer;
  });

  it("does without a line that a power loss cut", async () => {
    await host.run(["apply", "change"], { document: { root } });
    appendFileSync(entries(), `\n+\t99\tchange\tfile\t${inRoot("precio`us")}`);
    writeFileSync(inRoot("precio`us"), "");
    await host.run(["apply", "change"], { document: { root, sleep: "0.01" } });
    expect((await host.run(["sweep"])).code).toBe(0);
    expectAsItWas();
    expect(existsSync(inRoot("precio`us"))).toBe(true);
  });

  it("leaves a folder that others use by now, and says so", async () => {
    await host.run(["apply", "change"], { document: { root } });
    writeFileSync(inRoot("made/theirs"), "");
    const undone = await host.run(["undo", "change"]);
    expect(undone).toMatchObject({
      code: 0,
      stderr: expect.stringContaining("stays: something else is in it") as string,
    });
    expect(existsSync(inRoot("made/theirs"))).toBe(true);
  });

  it("lets the last of two stacks take back what both wanted", async () => {
    await host.run(["apply", "change"], { document: { root } });
    host.environment["TANDEM_STACK"] = "other";
    await host.run(["apply", "change"], { document: { root } });
    host.environment["TANDEM_STACK"] = host.stack;
    expect((await host.run(["sweep"])).code).toBe(0);
    expect(read(inRoot("there"))).toBe("ours\n");
    host.environment["TANDEM_STACK"] = "other";
    expect((await host.run(["sweep"])).code).toBe(0);
    host.environment["TANDEM_STACK"] = host.stack;
    expectAsItWas();
  });
});
