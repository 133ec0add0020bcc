import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestHost } from "../host/host";
import { applyRuntime, SHARED_CACHE } from "../host/real-runtime";

const REQUIREMENTS = "bootstrap/trainer/requirements-megatron-bridge.txt";
/** What its packages need and the runtime of vLLM has in other versions, or not at all; and pytest. */
const ADDED = [
  ...["antlr4-python3-runtime==4.9.3", "huggingface-hub==1.33.0", "omegaconf==2.3.1", "tokenizers==0.22.2"],
  ...["pytest==9.2.0", "pluggy==1.7.0", "iniconfig==2.3.1"],
];

let host: TestHost;
let vllm: string;
let python: string;

beforeAll(async () => {
  host = new TestHost({}, { TANDEM_CACHE_DIR: SHARED_CACHE });
  vllm = (await applyRuntime(host)).python;
  python = megatronPython(vllm);
});
afterAll(() => host.close());

/** An environment in the user's cache with the pinned packages, and those of vLLM's runtime, PyTorch above all, behind them. */
function megatronPython(runtime: string): string {
  const pinned = readFileSync(REQUIREMENTS, "utf8")
    .split("\n")
    .filter((line) => line.includes("==") && !line.startsWith("torch=="));
  const packages = [...pinned, ...ADDED];
  const digest = createHash("sha256")
    .update([runtime, ...packages].join("\n"))
    .digest("hex");
  const home = path.join(SHARED_CACHE, "test-trainer", `megatron-${digest.slice(0, 16)}`);
  if (!existsSync(home)) {
    mkdirSync(path.dirname(home), { recursive: true });
    const building = mkdtempSync(`${home}.`);
    const site = (of: string) =>
      execFileSync(of, ["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], { encoding: "utf8" }).trim();
    execFileSync(runtime, ["-m", "venv", building], { stdio: "pipe" });
    const made = path.join(building, "bin/python");
    const install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"];
    execFileSync(made, [...install, ...packages], { stdio: "pipe" });
    writeFileSync(path.join(site(made), "runtime.pth"), `${site(runtime)}\n`);
    renameSync(building, home);
  }
  return path.join(home, "bin/python");
}

/** Two vLLMs at float32 take some minutes on two cores: too long for every run, so it is asked for. */
const isLong = process.env["TANDEM_TEST_LONG"] === "1";

describe("Megatron-Bridge on the CPU", () => {
  const files: [string, string, number][] = [
    ["trains as transformers and PEFT do, with one rank and with two", "test_megatron.py", 9],
  ];
  if (isLong) files.push(["gives adapters that vLLM serves", "test_megatron_vllm.py", 1]);
  it.each(files)("%s", { timeout: 900_000 }, async (_, file, tests) => {
    const folder = mkdtempSync(path.join(host.root, "pytest-"));
    const argv = ["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", path.join(folder, "tmp")];
    const running = spawn(python, [...argv, path.join(__dirname, "megatron_cpu", file)], {
      env: { ...process.env, TANDEM_TEST_VLLM: vllm, HF_HUB_OFFLINE: "1", TMPDIR: folder },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [running.stdout, running.stderr])
      stream.on("data", (data: Buffer) => (output += data.toString()));
    const code = await new Promise<number | null>((resolve) => running.once("close", resolve));
    rmSync(folder, { recursive: true, force: true });
    expect(code, output.slice(-12_000)).toBe(0);
    expect(output).toContain(`${tests} passed`);
  });
});
