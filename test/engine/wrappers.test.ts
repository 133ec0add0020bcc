import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const bin = path.join(__dirname, "../../bin");

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "tandem-wrappers-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Starts a wrapper with an empty cache and only the named programs beside the system's tools. */
function start(file: string, args: readonly string[], { programs = {}, variables = {} }: Setting = {}) {
  const tools = path.join(folder, "tools");
  mkdirSync(tools, { recursive: true });
  for (const name of ["sh", "dirname", "uname", "mktemp", "mkdir", "mv", "rm", "grep", "tail", "cut", "readlink"]) {
    const real = spawnSync("sh", ["-c", `command -v ${name}`])
      .stdout.toString()
      .trim();
    rmSync(path.join(tools, name), { force: true });
    symlinkSync(real, path.join(tools, name));
  }
  for (const [name, script] of Object.entries(programs)) {
    writeFileSync(path.join(tools, name), script);
    chmodSync(path.join(tools, name), 0o755);
  }
  const env = { PATH: tools, HOME: folder, XDG_CACHE_HOME: path.join(folder, "cache"), ...variables };
  const { status, stdout, stderr } = spawnSync(file, args, { env, encoding: "utf8", timeout: 15_000 });
  return { status, stdout: stdout.trim(), stderr: stderr.trim() };
}

interface Setting {
  readonly programs?: Readonly<Record<string, string>>;
  readonly variables?: Readonly<Record<string, string>>;
}

const realNode = `#!/bin/sh\nexec '${process.execPath}' "$@"\n`;
/** Stands for Node 20: answers what the wrapper asks, and nothing else. */
const oldNode = `#!/bin/sh\ncase $1 in --version) echo v20.20.2 ;; -p) echo 20 ;; *) exit 99 ;; esac\n`;

describe("node22", () => {
  test("takes the node on PATH when it is new enough, and remembers it", () => {
    const setting = { programs: { node: realNode } };
    expect(start(path.join(bin, "node22"), ["-p", "6*7"], setting)).toEqual({ status: 0, stdout: "42", stderr: "" });
    const found = readFileSync(path.join(folder, "cache/tandem/node/found"), "utf8");
    const node = path.join(folder, "tools/node");
    expect(found).toBe(`${node}\n${node}\n`);
    expect(start(path.join(bin, "node22"), ["--which"], setting).stdout).toBe(node);
  });

  test("looks again when another node comes first on PATH", () => {
    start(path.join(bin, "node22"), ["-p", "1"], { programs: { node: realNode } });
    const { status, stderr } = start(path.join(bin, "node22"), ["-p", "1"], { programs: { node: oldNode } });
    expect(status).toBe(127);
    expect(stderr).toContain("found v20.20.2");
  });

  test("hands the node it found to what it starts, which then looks no further", () => {
    const { stdout } = start(path.join(bin, "node22"), ["-p", "process.env.TANDEM_NODE"], {
      programs: { node: realNode },
    });
    expect(stdout).toBe(path.join(folder, "tools/node"));
    const variables = { TANDEM_NODE: process.execPath };
    expect(start(path.join(bin, "node22"), ["--which"], { variables }).stdout).toBe(process.execPath);
  });

  test("says in one line what to install where neither Node 22 nor npm is there", () => {
    expect(start(path.join(bin, "node22"), ["-v"], { programs: { node: oldNode } })).toEqual({
      status: 127,
      stdout: "",
      stderr:
        "tandem: Node 22 or newer is needed — found v20.20.2 — fix: install Node 22 or newer, or npm, which brings it",
    });
  });

  test("passes on why npm could not fetch Node, and leaves nothing half done", () => {
    const programs = { npm: "#!/bin/sh\necho 'npm error network request failed' >&2\nexit 1\n" };
    const { status, stderr } = start(path.join(bin, "node22"), ["-v"], { programs });
    expect(status).toBe(127);
    expect(stderr.split("\n").at(-1)).toMatch(
      /npm could not fetch .* — npm error network request failed — fix: install/,
    );
    expect(start("/bin/sh", ["-c", `ls -A '${folder}/cache/tandem/node'; echo end`]).stdout).toBe("end");
  });
});

describe("tandem and tandem-runner", () => {
  test.each(["tandem", "tandem-runner"])("%s says what to do when nothing was built", (name) => {
    mkdirSync(path.join(folder, "package/bin"), { recursive: true });
    for (const file of ["node22", name]) {
      writeFileSync(path.join(folder, "package/bin", file), readFileSync(path.join(bin, file)), { mode: 0o755 });
    }
    const { status, stderr } = start(path.join(folder, "package/bin", name), []);
    expect(status).toBe(127);
    expect(stderr).toMatch(
      new RegExp(`^${name}: not built yet — missing dist/bundled/.*js in .* — fix: make build, or npm`),
    );
  });

  test("are found through chains of links, as npm makes them, and from a folder with blanks", () => {
    const package_ = path.join(folder, "a package");
    mkdirSync(path.join(package_, "bin"), { recursive: true });
    mkdirSync(path.join(package_, "dist/bundled"), { recursive: true });
    writeFileSync(path.join(package_, "dist/bundled/tandem.js"), "console.log(process.argv.slice(2))");
    for (const file of ["node22", "tandem"]) {
      writeFileSync(path.join(package_, "bin", file), readFileSync(path.join(bin, file)), { mode: 0o755 });
    }
    mkdirSync(path.join(folder, "node_modules/.bin"), { recursive: true });
    symlinkSync("../../a package/bin/tandem", path.join(folder, "node_modules/.bin/tandem"));
    symlinkSync(path.join(folder, "node_modules/.bin/tandem"), path.join(folder, "link"));
    const { stdout } = start(path.join(folder, "link"), ["a b", "--c"], { programs: { node: realNode } });
    expect(stdout).toBe("[ 'a b', '--c' ]");
  });
});
