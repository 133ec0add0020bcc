import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type FakeGpus, writeGpus } from "./gpus";

const recorded = path.resolve(__dirname, "../../host/fixtures/nvidia-smi-2xh100");
const DRIVER = "580.159.04";
/** The machine of the recording. */
const MACHINE: FakeGpus = {
  count: 2,
  uuids: ["GPU-08ced166-92fb-d8c1-600d-17fbe5a117e4", "GPU-17008272-583e-0262-8e51-995494904d3a"],
  busIds: ["00000000:00:06.0", "00000000:00:07.0"],
  temperaturesC: [39, 34],
  powerWatts: [110, 91],
};

describe("the stand-in nvidia-smi", () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(path.join(tmpdir(), "fakegpu-"));
    for (const folder of ["etc", "proc/driver/nvidia", "usr/lib/fakegpu"]) {
      mkdirSync(path.join(root, folder), { recursive: true });
    }
    load(DRIVER);
    writeFileSync(path.join(root, "usr/lib/fakegpu/library-version"), DRIVER);
    writeGpus(root, MACHINE);
  });
  afterEach(() => rmSync(root, { recursive: true }));

  const load = (version: string) =>
    writeFileSync(
      path.join(root, "proc/driver/nvidia/version"),
      `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  ${version}  Release Build  (builder@localhost)\n`,
    );
  const smi = (...args: string[]) =>
    execFileSync("python3", [path.join(__dirname, "nvidia_smi.py"), ...args], {
      encoding: "utf8",
      env: { PATH: process.env["PATH"], FAKEGPU_ROOT: root },
      stdio: ["ignore", "pipe", "pipe"],
    });
  const recording = (name: string) => readFileSync(path.join(recorded, name), "utf8");
  const query = "--query-gpu=index,uuid,name,memory.total,memory.used,compute_cap";

  it.each([
    ["query-gpu.txt", [query, "--format=csv,noheader,nounits"]],
    ["topo-m.txt", ["topo", "-m"]],
    ["topo-p2p-r.txt", ["topo", "-p2p", "r"]],
  ])("prints %s as the real one did", (name, args) => {
    expect(smi(...args)).toBe(recording(name));
  });

  it("prints the table as the real one did, but for the time", () => {
    const withoutTime = (text: string) => text.split("\n").slice(1);
    expect(withoutTime(smi())).toEqual(withoutTime(recording("plain.txt")));
    expect(smi().split("\n")[0]).toMatch(/^\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4} {7}$/);
  });

  it("counts the memory of processes and lists them", () => {
    writeGpus(root, { ...MACHINE, processes: [{ pid: 4711, gpu: 1, usedMiB: 500, name: "someone-else" }] });
    expect(smi("--query-gpu=memory.used,memory.free", "--format=csv,noheader")).toBe(
      "0 MiB, 81559 MiB\n500 MiB, 81059 MiB\n",
    );
    expect(smi("--query-compute-apps=pid,used_memory,process_name", "--format=csv,noheader,nounits")).toBe(
      "4711, 500, someone-else\n",
    );
    const row = smi()
      .split("\n")
      .find((line) => line.includes("4711"));
    expect(row).toHaveLength(91);
  });

  it("fails without a module, and when module and library differ", () => {
    load("580.95.05");
    expect(() => smi()).toThrow(expect.objectContaining({ status: 18 }));
    rmSync(path.join(root, "proc/driver/nvidia/version"));
    expect(() => smi("-L")).toThrow(expect.objectContaining({ status: 9 }));
  });
});
