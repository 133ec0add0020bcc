import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const root = path.resolve(__dirname, "../..");
const NOTICE = { action: "terminate", time: "2026-11-25T23:10:00Z" };

describe("the watcher of a spot machine", () => {
  let folder: string;
  let children: ChildProcess[];
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "tandem-spot-"));
    children = [];
  });
  afterEach(() => {
    for (const child of children) child.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  });

  function start(
    script: string,
    argv: readonly string[],
    variables: Readonly<Record<string, string>> = {},
  ): ChildProcess {
    const env = { ...process.env, TANDEM_SPOT_LOOK_SECONDS: "0.05", ...variables };
    const child = spawn("python3", ["-ESsB", path.join(root, script), ...argv], {
      env,
      stdio: ["ignore", "pipe", "inherit"],
    });
    children.push(child);
    return child;
  }
  const portOf = (child: ChildProcess) =>
    new Promise<string>((resolve) => child.stdout?.once("data", (data: Buffer) => resolve(data.toString().trim())));
  const ended = (child: ChildProcess) => new Promise((resolve) => child.once("exit", resolve));

  it("marks the machine and stops training once when the notice comes, and never before", async () => {
    const notice = path.join(folder, "notice");
    const port = await portOf(start("test/fakes/imds.py", ["0", notice]));
    const stopped = path.join(folder, "stopped");
    const watcher = start("bootstrap/host/spot_watch.py", [folder, "sh", "-c", `echo once >>'${stopped}'`], {
      AWS_EC2_METADATA_SERVICE_ENDPOINT: `http://127.0.0.1:${port}`,
    });
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(existsSync(stopped)).toBe(false);
    writeFileSync(`${notice}.draft`, JSON.stringify(NOTICE));
    renameSync(`${notice}.draft`, notice);
    expect(await ended(watcher)).toBe(0);
    expect(readFileSync(stopped, "utf8")).toBe("once\n");
    expect(JSON.parse(readFileSync(path.join(folder, "notice.json"), "utf8"))).toEqual({
      ...NOTICE,
      seenAt: expect.stringMatching(/^\d{4}-.*Z$/),
    });
  });

  it("goes on where the metadata can't be asked, and finds the notice when it can", async () => {
    const notice = path.join(folder, "notice");
    writeFileSync(notice, JSON.stringify(NOTICE));
    const first = start("test/fakes/imds.py", ["0", path.join(folder, "never")]);
    const port = await portOf(first);
    first.kill("SIGKILL");
    await ended(first);
    const watcher = start("bootstrap/host/spot_watch.py", [folder, "true"], {
      AWS_EC2_METADATA_SERVICE_ENDPOINT: `http://127.0.0.1:${port}`,
      http_proxy: "http://127.0.0.1:9",
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    start("test/fakes/imds.py", [port, notice]);
    expect(await ended(watcher)).toBe(0);
    expect(existsSync(path.join(folder, "notice.json"))).toBe(true);
  });
});
