import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Aws, startAws } from "../fixtures/aws/aws";
import { TestHost } from "../host/host";
import { applyRuntime, SHARED_CACHE } from "../host/real-runtime";

const MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct";
const REQUIREMENTS = ["bootstrap/trainer/requirements.txt", "bootstrap/trainer/requirements-huggingface.txt"];
const ADDED = [
  ...["accelerate==1.15.0", "peft==0.21.2", "pytest==9.2.0", "pluggy==1.7.0", "iniconfig==2.3.1"],
  ...["boto3==1.44.8", "botocore==1.44.8", "s3transfer==0.19.3", "python-dateutil==2.9.0.post0"],
];

let host: TestHost;
let python: string;
let trainer: string;
let smol: string;
let aws: Aws;
let running: ChildProcess | undefined;

beforeAll(async () => {
  host = new TestHost({}, { TANDEM_CACHE_DIR: SHARED_CACHE });
  ({ python } = await applyRuntime(host));
  const document = { source: "auto", model: MODEL, revision: "main", python, fallbackPackage: true };
  const weights = await host.run(["apply", "weights"], { document });
  expect(weights, weights.stderr).toMatchObject({ code: 0 });
  smol = (JSON.parse(weights.stdout) as { path: string }).path;
  trainer = trainerPython();
  aws = await startAws();
});
afterAll(async () => {
  running?.kill();
  await aws?.close();
  await host.close();
});

/**
 * The environment of the tests, kept in the user's cache: what the trainer needs beyond the runtime of vLLM, with that
 * runtime's packages behind it. They have the versions that the trainer asks for, and a second PyTorch takes 5 GB.
 */
function trainerPython(): string {
  const key = createHash("sha256");
  for (const part of [python, ...ADDED, ...REQUIREMENTS.map((file) => readFileSync(file, "utf8"))]) key.update(part);
  const home = path.join(SHARED_CACHE, "test-trainer", key.digest("hex").slice(0, 16));
  if (!existsSync(home)) {
    mkdirSync(path.dirname(home), { recursive: true });
    const building = mkdtempSync(`${home}.`);
    const site = (of: string) =>
      execFileSync(of, ["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], { encoding: "utf8" }).trim();
    execFileSync(python, ["-m", "venv", building], { stdio: "pipe" });
    const made = path.join(building, "bin/python");
    execFileSync(made, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", ...ADDED], {
      stdio: "pipe",
    });
    writeFileSync(path.join(site(made), "runtime.pth"), `${site(python)}\n`);
    renameSync(building, home);
  }
  return path.join(home, "bin/python");
}

/** Runs files of tests in one process, since each would read PyTorch again. */
async function pytest(files: readonly string[]): Promise<{ code: number | null; output: string }> {
  const folder = mkdtempSync(path.join(host.root, "pytest-"));
  const argv = [
    "-B",
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    "--basetemp",
    path.join(folder, "tmp"),
    "--durations=8",
  ];
  const env = { ...process.env, ...aws.env, TANDEM_TEST_VLLM: python, TANDEM_TEST_SMOL: smol, TMPDIR: folder };
  const paths = files.map((file) => path.join(__dirname, file));
  running = spawn(trainer, [...argv, ...paths], { env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [running.stdout, running.stderr])
    stream?.on("data", (data: Buffer) => (output += data.toString()));
  const code = await new Promise<number | null>((resolve) => running?.once("close", resolve));
  rmSync(folder, { recursive: true, force: true });
  return { code, output };
}

describe("the trainer", () => {
  const files = readdirSync(__dirname).filter((name) => /^test_.*\.py$/.test(name));

  it("asks for the versions that its tests run with", () => {
    const check =
      "import importlib.metadata as m, sys\nfor line in open(sys.argv[1]):\n  name, _, version = line.strip().partition('==')\n  if version and m.version(name) != version: print(line.strip(), m.version(name))";
    for (const file of REQUIREMENTS) expect(execFileSync(trainer, ["-c", check, file], { encoding: "utf8" })).toBe("");
  });

  const withVllm = "test_with_vllm.py";
  it.each([
    ["its own tests", files.filter((file) => file !== withVllm)],
    ["with the real vLLM", [withVllm]],
  ])("%s", { timeout: 1_800_000 }, async (_, chosen) => {
    const { code, output } = await pytest(chosen);
    expect(code, output.slice(-12_000)).toBe(0);
    expect(output).toMatch(/\d+ passed/);
    expect(output).not.toMatch(/\d+ skipped/);
  });
});
