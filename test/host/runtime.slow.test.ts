import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Answer, TestHost } from "./host";
import { applyRuntime, type RuntimeResult, SHARED_CACHE, VLLM_VERSION } from "./real-runtime";

let installedHost: TestHost;
let installed: RuntimeResult;
let host: TestHost;
beforeAll(async () => {
  installedHost = new TestHost({}, { TANDEM_CACHE_DIR: SHARED_CACHE });
  installed = await applyRuntime(installedHost);
});
afterAll(() => installedHost.close());
beforeEach(() => {
  host = new TestHost();
});
afterEach(() => host.close());

function apply(kind: string, runtimePath?: string, device = "cpu"): Promise<Answer> {
  const document = { kind, device, vllmVersion: VLLM_VERSION, path: runtimePath };
  return host.run(["apply", "runtime"], { document, values: { TANDEM_REPAIR: "#1" } });
}

describe("the runtime", () => {
  it("made by uv is the pinned vLLM, says what it can do, and is not made twice", async () => {
    expect(installed).toMatchObject({ vllmVersion: VLLM_VERSION, device: "cpu" });
    expect(installed.flags).toEqual(expect.arrayContaining(["--tensor-parallel-size", "--kv-cache-memory-bytes"]));
    const again = await installedHost.run(["apply", "runtime"], {
      document: { kind: "venv", device: "cpu", vllmVersion: VLLM_VERSION },
    });
    expect(again.stderr).toBe(`runtime is there: ${installed.path}\n`);
    expect(await installedHost.check()).toMatchObject([{ step: "runtime", holds: true }]);
  });

  it("that exists is taken as it is, and looked at once", async () => {
    const first = await apply("existing", installed.path);
    expect(first, first.stderr).toMatchObject({ code: 0, stderr: expect.stringContaining("asking vLLM") as string });
    const result = JSON.parse(first.stdout) as RuntimeResult;
    expect(result).toMatchObject({ python: installed.python, flags: installed.flags });
    expect((await apply("existing", installed.python)).stderr).toMatch(/^runtime is there: \S+\n$/);
    expect(await host.check()).toMatchObject([{ holds: true }]);
  });

  it("that lost its vLLM does not hold", async () => {
    const unpacked = await apply("archive", archiveOfLinks());
    expect(unpacked, unpacked.stderr).toMatchObject({ code: 0 });
    const { path: folder, flags } = JSON.parse(unpacked.stdout) as RuntimeResult;
    expect(flags).toEqual(installed.flags);
    expect(await host.check()).toMatchObject([{ holds: true }]);
    renameSync(path.join(folder, "unpacked"), path.join(folder, "lost"));
    expect(await host.check()).toMatchObject([
      { holds: false, reason: expect.stringContaining("vLLM can't be found") as string },
    ]);
  });

  it.each([
    ["a Python without vLLM", "existing", "/usr/bin/python3", "cpu", "has no vLLM — fix:"],
    ["no Python", "existing", "/nonexistent", "cpu", "runtimePath is not a Python — got '/nonexistent'"],
    ["a file that is no archive", "archive", "text", "cpu", "the archive can't be unpacked"],
    ["CUDA without a driver", "venv", undefined, "cuda", "no NVIDIA driver: nvidia-smi is missing — fix:"],
  ])("is refused: %s", async (_what, kind, place, device, message) => {
    if (device === "cuda" && existsSync("/usr/bin/nvidia-smi")) return; // This machine has a driver.
    host.environment["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin";
    const file = place === "text" ? path.join(host.root, "text.tar") : place;
    if (place === "text") writeFileSync(path.join(host.root, "text.tar"), "text");
    const answer = await apply(kind, file, device);
    expect(answer.stderr).toContain(message);
    expect(answer.code).not.toBe(0);
  });
});

/** An archive of the installed site-packages, by links: the real thing is 6 GB. */
function archiveOfLinks(): string {
  const site = execFileSync(installed.python, ["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], {
    encoding: "utf8",
  }).trim();
  const folder = path.join(host.root, "site");
  mkdirSync(path.join(folder, "vllm"), { recursive: true });
  for (const name of readdirSync(site).filter((entry) => entry !== "vllm"))
    symlinkSync(path.join(site, name), path.join(folder, name));
  for (const name of readdirSync(path.join(site, "vllm")))
    symlinkSync(path.join(site, "vllm", name), path.join(folder, "vllm", name));
  const archive = path.join(host.root, "site.tar.gz");
  execFileSync("tar", ["-C", folder, "-czf", archive, "."]);
  return archive;
}
