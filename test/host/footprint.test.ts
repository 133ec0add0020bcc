import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { HostFacts } from "../../plan/facts";
import { HOST_SCRIPTS, TestHost } from "./host";

let host: TestHost;
let models: string;
beforeEach(() => {
  host = new TestHost();
  models = path.join(host.environment["TANDEM_CACHE_DIR"]!, "models");
  mkdirSync(models, { recursive: true });
});
afterEach(() => host.close());

const KEY = "Qwen/Qwen3-0.6B@main vllm=venv:0.32.0 tp=2 pp=1 replicas=1 bfloat16 NVIDIA H100 80GB HBM3";

/** As the proof step calls it after it has measured. */
function keep(file: string, workers: object[], gpus: object[], kvCacheBytes = 26 * 2 ** 30): void {
  const program = `
import json, sys
sys.path.insert(0, sys.argv[1])
from footprint import keep_footprint
keep_footprint(*json.loads(sys.argv[2]))
`;
  const given = JSON.stringify([{ footprintKey: KEY, kvCacheBytes }, workers, gpus]);
  execFileSync("python3", ["-c", program, HOST_SCRIPTS, given], {
    env: { ...process.env, TANDEM_FOOTPRINT: path.join(models, file) },
  });
}

async function facts(): Promise<HostFacts> {
  const answer = await host.run([], {}, "facts.sh");
  expect(answer, answer.stderr).toMatchObject({ code: 0 });
  return JSON.parse(answer.stdout) as HostFacts;
}

const WORKERS = [
  { pid: 1, rank: 0, gpuIndex: 0 },
  { pid: 2, rank: 1, gpuIndex: 1 },
];
const GPUS = [
  { index: 0, servingGiB: 31.65, totalGiB: 79.65, freeGiB: 48 },
  { index: 1, servingGiB: 31.5, totalGiB: 79.65, freeGiB: 48 },
];

describe("what vLLM was measured to take", () => {
  it("is kept beside the weights and told of by facts.sh, with what the running vLLM was started with", async () => {
    expect((await facts()).footprints).toBeUndefined();
    keep("footprint-1.json", WORKERS, GPUS);
    keep("footprint-2.json", WORKERS, GPUS, 20 * 2 ** 30);
    expect((await facts()).footprints).toEqual([
      { key: KEY, besideKvGiB: 5.65 },
      { key: KEY, besideKvGiB: 11.65 },
    ]);
    expect((await facts()).startedWith).toBeUndefined();
    const unit = path.join(host.stackDir, "units/serving");
    mkdirSync(unit, { recursive: true });
    writeFileSync(path.join(unit, "unit.json"), JSON.stringify({ argv: ["x"], footprintKey: KEY, footprintGiB: 5.5 }));
    expect((await facts()).startedWith).toEqual({ key: KEY, besideKvGiB: 5.5 });
  });

  it("is not kept where it may be others' memory, and what is no record is not read", async () => {
    const unseen = WORKERS.map(({ pid, rank }) => ({ pid, rank }));
    keep("footprint-1.json", unseen, GPUS);
    keep("footprint-2.json", WORKERS, []);
    expect(readdirSync(models)).toEqual([]);
    writeFileSync(path.join(models, "footprint-3.json"), '{"key":"a","besideKvGiB":1');
    writeFileSync(path.join(models, "footprint-4.json"), '{"key":"a\\"b","besideKvGiB":1,"measuredAt":"x"}\n');
    expect((await facts()).footprints).toBeUndefined();
    keep("footprint-3.json", WORKERS, GPUS);
    expect((await facts()).footprints).toEqual([{ key: KEY, besideKvGiB: 5.65 }]);
    expect(readFileSync(path.join(models, "footprint-3.json"), "utf8")).toMatch(/"measuredAt":"2\d{3}-/);
  });
});
