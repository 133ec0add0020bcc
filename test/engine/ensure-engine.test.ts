import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { builtCliFolder } from "../../bootstrap/engine/build";
import { inOwnProcess as runOnEngine, type OwnProcess } from "./own-process";

let folder: string;
let tools: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "tandem-ensure-"));
  tools = path.join(folder, "tools/bin");
  mkdirSync(tools, { recursive: true });
  mkdirSync(path.join(folder, "cache/tandem/engine"), { recursive: true });
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Stands for another version of the CLI: answers `version`, and counts how often it is asked. */
function installPulumi(version: string, target = tools): void {
  mkdirSync(target, { recursive: true });
  writeFileSync(path.join(target, "pulumi"), `#!/bin/sh\necho asked >>'${folder}/asked'\necho ${version}\n`);
  chmodSync(path.join(target, "pulumi"), 0o755);
}

/** As if Pulumi's site had not answered just now: the same on every machine. */
function goOffline(): void {
  writeFileSync(path.join(folder, "cache/tandem/engine/unreachable.json"), JSON.stringify({ since: Date.now() }));
}

function inOwnProcess(script: string): Promise<OwnProcess> {
  return runOnEngine(script, { folder, PATH: tools });
}

async function ensure(): Promise<{ lines: readonly string[]; engine: Record<string, unknown>; error: string }> {
  const script = `require("./dist/bootstrap/engine").ensureEngine({ log: (line) => console.log(line) })
    .then((engine) => console.log(JSON.stringify(engine)), (error) => { console.log(error.message); process.exitCode = 1; })`;
  const { status, lines, error } = await inOwnProcess(script);
  return { lines, error, engine: status === 0 ? (JSON.parse(lines.at(-1)!) as Record<string, unknown>) : {} };
}

describe("which engine", () => {
  beforeEach(goOffline);

  test("a pulumi on PATH that is new enough is used, and asked for its version once", async () => {
    installPulumi("v3.280.1");
    const { engine } = await ensure();
    expect(engine).toMatchObject({ root: path.dirname(tools), version: "3.280.1", source: "path" });
    await ensure();
    expect(readFileSync(path.join(folder, "asked"), "utf8")).toBe("asked\n");
  });

  test("a pulumi on PATH that lies in no bin folder is reached through a link", async () => {
    installPulumi("v3.280.1", path.join(folder, "odd"));
    tools = path.join(folder, "odd");
    const { engine } = await ensure();
    expect(readlinkSync(path.join(String(engine["root"]), "bin/pulumi"))).toBe(path.join(folder, "odd/pulumi"));
  });

  test.each(["v3.269.9", "v4.0.0", "v2.25.0"])(
    "a pulumi %s on PATH is refused, with what is allowed",
    async (version) => {
      installPulumi(version);
      const { lines } = await ensure();
      expect(lines[0]).toBe(
        `the pulumi on PATH is not used — got ${version.slice(1)} — allowed: 3.270.0 or newer, below 4 — fix: upgrade it, or leave it: Tandem gets its own`,
      );
    },
  );

  test("without any engine, network or Go, one line says what to install", async () => {
    const { lines } = await ensure();
    expect(lines).toEqual([
      "there is no Pulumi engine on this machine and Pulumi's download can't be reached — allowed: pulumi 3.270.0 or newer on PATH — fix: install Pulumi (pulumi.com/docs/install), or put Go 1.26 or newer on PATH, with which Tandem builds it",
    ]);
  });

  test("a Go that can't build it is quoted, and nothing half built counts as an engine", async () => {
    const go = `#!/bin/sh\ncase $1 in env) echo /nowhere ;; *) echo 'go: module lookup disabled' >&2; exit 1 ;; esac\n`;
    writeFileSync(path.join(tools, "go"), go, { mode: 0o755 });
    const { lines } = await ensure();
    expect(lines.slice(1).join("\n")).toMatch(
      /could not be built \(go ended with 1\)[^]*\n {2}go: module lookup disabled$/,
    );
    const built = path.join(folder, "cache/tandem/engine", path.basename(builtCliFolder()));
    expect(existsSync(path.join(built, "bin/pulumi"))).toBe(false);
  });
});

describe("which plugin", () => {
  beforeEach(() => {
    goOffline();
    installPulumi("v3.274.1");
  });

  test("the installed one is used, from the user's own Pulumi home", async () => {
    const plugin = path.join(folder, ".pulumi/plugins/resource-command-v1.2.1");
    mkdirSync(plugin, { recursive: true });
    writeFileSync(path.join(plugin, "pulumi-resource-command"), "");
    const { engine } = await ensure();
    expect(engine).toMatchObject({ pluginSource: "installed", env: { PULUMI_SKIP_UPDATE_CHECK: "true" } });
    expect(engine["env"]).not.toHaveProperty("PULUMI_HOME");
  });

  test("ours lives in a home of its own: the user's is untouched, its logins and other plugins stay in use", async () => {
    const other = path.join(folder, ".pulumi/plugins/resource-kubernetes-v4.25.0");
    mkdirSync(other, { recursive: true });
    const { engine } = await ensure();
    const env = engine["env"] as Record<string, string>;
    expect(engine["pluginSource"]).toBe("offline");
    expect(env["PULUMI_HOME"]).toContain(path.join(folder, "cache/tandem/engine/home-"));
    expect(env["PULUMI_CREDENTIALS_PATH"]).toBe(path.join(folder, ".pulumi"));
    expect(readlinkSync(path.join(env["PULUMI_HOME"]!, "plugins/resource-kubernetes-v4.25.0"))).toBe(other);
    expect(existsSync(path.join(folder, ".pulumi/plugins/resource-command-v1.2.1"))).toBe(false);
    expect(engine["summary"]).toBe(`Pulumi 3.274.1 (${tools}/pulumi), command 1.2.1 (Tandem's offline plugin)`);
  });
});

test("once everything is there, it starts no process", async () => {
  goOffline();
  installPulumi("v3.274.1");
  await ensure();
  const { lines } = await inOwnProcess(`
    const childProcess = require("node:child_process");
    childProcess.spawn = childProcess.execFile = () => { throw new Error("started a process"); };
    require("./dist/bootstrap/engine").ensureEngine({ log: console.log }).then(() => console.log("ready"));`);
  expect(lines.at(-1)).toBe("ready");
});
