import { spawn } from "node:child_process";
import { readdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { installSmi, smiQuery, type GpuOverrides } from "../fakes/nvidia-smi-query";
import { freePort } from "../fixtures/free-port";
import { processesWith, TestHost } from "./host";

let host: TestHost;
beforeEach(() => {
  host = new TestHost();
});
afterEach(() => host.close());

/** Runs the doctor, or one of its parts, and answers with its lines as `code verdict text | cure`. */
async function doctor(part?: string): Promise<string[]> {
  const { code, stdout } = await host.run(part === undefined ? [] : ["part", part], {}, "doctor.sh");
  expect(code).toBe(0);
  return stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split("\t"))
    .map(([check, verdict, text, cure]) => `${check} ${verdict} ${text}${cure === "" ? "" : ` | ${cure}`}`);
}

function onPath(folder: string): void {
  host.environment["PATH"] = `${folder}:${process.env["PATH"]}`;
}

async function gpuLines(gpus: readonly GpuOverrides[]): Promise<string[]> {
  onPath(installSmi(host.root, smiQuery(gpus)));
  return doctor("gpu");
}

describe("doctor.sh", () => {
  it("has a verdict on everything, and leaves no trace", async () => {
    const before = readdirSync("/dev/shm");
    const lines = await doctor();
    const checks = lines.map((line) => line.split(" ")[0]);
    for (const check of [
      "time",
      "system",
      "privileges",
      "disk",
      "memory",
      "packages",
      "boot",
      "services",
      "python",
      "lease",
    ]) {
      expect(checks).toContain(check);
    }
    expect(readdirSync("/dev/shm").filter((name) => name.startsWith("tandem-") && !before.includes(name))).toEqual([]);
    expect(Math.abs(Number(lines[0]?.split(" ")[2]) - Date.now() / 1000)).toBeLessThan(60);
  });

  it("waits for no check that hangs, and says which one did", async () => {
    // Its child leaves the process group and holds the pipe, as a process does that hangs in the kernel.
    const folder = installSmi(host.root, "", "exit 9");
    const mark = `3${process.pid}`;
    writeFileSync(path.join(folder, "nvidia-smi"), `#!/bin/sh\nsetsid sleep ${mark}\n`);
    onPath(folder);
    // Long enough for the others on a busy machine.
    host.environment["TANDEM_DOCTOR_SECONDS"] = "5";
    const started = Date.now();
    try {
      const lines = await doctor();
      expect(Date.now() - started).toBeLessThan(20_000);
      expect(lines).toContainEqual(expect.stringMatching(/^gpu fail no answer within 5 s \| .*reboot/));
      expect(lines).toContainEqual(expect.stringMatching(/^links fail no answer within 5 s/));
      expect(lines).toContainEqual(expect.stringMatching(/^disk ok/));
    } finally {
      for (const process of processesWith(`sleep ${mark}`)) globalThis.process.kill(process, "SIGKILL");
    }
  });

  it("names who holds the port, and knows a service of its own", async () => {
    const port = await freePort();
    host.environment["TANDEM_PORT"] = String(port);
    expect(await doctor("port")).toEqual([`port ok port ${port} is free`]);
    const server = createServer().listen(port, "127.0.0.1");
    try {
      expect(await doctor("port")).toEqual([
        expect.stringMatching(
          new RegExp(`^port fail port ${port} is held by process ${process.pid} .*kill ${process.pid}`),
        ),
      ]);
    } finally {
      server.close();
    }
    const own = `import socket, time; s = socket.create_server(("127.0.0.1", ${port})); print("up", flush=True); time.sleep(20)`;
    const service = spawn("python3", ["-c", own], { env: { ...process.env, TANDEM_OWNER: `${host.stack}/serving` } });
    try {
      await new Promise((resolve) => service.stdout.once("data", resolve));
      expect(await doctor("port")).toEqual([expect.stringMatching(/^port ok .* this stack's own service/)]);
    } finally {
      service.kill("SIGKILL");
    }
  });

  it("tells the stack's own lease from another's", async () => {
    await host.run(["apply", "lease"], { document: { exclusive: false } });
    expect(await doctor("lease")).toEqual([expect.stringMatching(/^lease ok held by this stack since 20/)]);
    host.environment["TANDEM_STACK"] = "another";
    expect(await doctor("lease")).toEqual([
      expect.stringMatching(/^lease ok not held by this stack; shared with unit-test \(by /),
    ]);
    host.environment["TANDEM_EXCLUSIVE"] = "true";
    expect(await doctor("lease")).toEqual([
      expect.stringMatching(/^lease fail held by another stack: unit-test .*--env unit-test/),
    ]);
    host.environment["TANDEM_STACK"] = host.stack;
  });
});

describe("the doctor on the kernel's log", () => {
  async function kernel(log: string): Promise<string[]> {
    const file = path.join(host.root, "kernel.log");
    writeFileSync(file, log);
    host.environment["TANDEM_KERNEL_LOG"] = file;
    return doctor("kernel");
  }

  it("counts each Xid on each GPU and keeps its last message", async () => {
    const lines = await kernel(
      [
        "[    1.000000] NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.95.05",
        "[    2.500000] NVRM: Xid (PCI:0000:3b:00): 13, pid=101, name=python, Graphics SM Warp Exception",
        "[    3.500000] NVRM: Xid (PCI:0000:3b:00): 13, pid=102, name=python, Graphics SM Global Exception",
        "[    4.500000] NVRM: Xid (PCI:0000:86:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
      ].join("\n"),
    );
    expect(lines).toEqual([
      expect.stringMatching(/^xid data 13 2 \d+ 0000:3b:00 NVRM: Xid .*pid=102/),
      expect.stringMatching(/^xid data 79 1 \d+ 0000:86:00 NVRM: .*fallen off the bus\.$/),
      "kernel ok the kernel's log since boot was read",
    ]);
  });

  it("tells of programs that the kernel ended and of disk errors", async () => {
    const lines = await kernel(
      [
        "[   10.000000] Out of memory: Killed process 4242 (python) total-vm:90000000kB, anon-rss:80000000kB",
        "[   11.000000] I/O error, dev nvme0n1, sector 12345 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 2",
        "[   12.000000] EXT4-fs (nvme0n1p1): Remounting filesystem read-only",
      ].join("\n"),
    );
    expect(lines[0]).toMatch(/^oom warn .*\(1 times, .* Killed process 4242 \(python\)/);
    expect(lines[1]).toMatch(/^disk fail .*\(2 times, .* Remounting filesystem read-only/);
  });
});

describe("the doctor on the GPUs' health", () => {
  it("finds nothing wrong with healthy ones", async () => {
    expect(await gpuLines([{}, {}])).toEqual([
      "ecc ok no uncorrectable memory error, no row waits for remapping",
      "clocks ok clocks are not held down by heat or power supply",
    ]);
  });

  it("takes what a GPU does not have for no defect", async () => {
    const nothing = Object.fromEntries(
      [
        "MIG Mode/Current",
        "ECC Mode/Current",
        "ECC Errors/Volatile/DRAM Uncorrectable",
        "Remapped Rows/Pending",
        "Fabric/State",
      ].map((name) => [name, "N/A"]),
    );
    expect(
      (await gpuLines([{ ...nothing, "Temperature/GPU T.Limit Temp": "N/A" }])).every((line) => / ok /.test(line)),
    ).toBe(true);
  });

  const CASES: readonly [what: string, second: GpuOverrides, line: RegExp][] = [
    [
      "uncorrectable ECC errors",
      { "ECC Errors/Volatile/DRAM Uncorrectable": "4" },
      /^ecc fail GPU 1 \(4\): .*\| .*reset/,
    ],
    [
      "uncorrectable ECC errors as branch 470 writes them",
      { "ECC Errors/Volatile/SRAM Uncorrectable": "1" },
      /^ecc fail GPU 1 \(1\)/,
    ],
    ["rows that wait for remapping", { "Remapped Rows/Pending": "Yes" }, /^ecc warn GPU 1: /],
    [
      "no spare rows left",
      { "Remapped Rows/Remapping Failure Occurred": "Yes" },
      /^ecc fail GPU 1: .*\| have the GPU replaced/,
    ],
    ["persistence off", { "Persistence Mode": "Disabled" }, /^persistence warn GPU 1: .*\| sudo nvidia-smi -pm 1/],
    ["MIG", { "MIG Mode/Current": "Enabled" }, /^mig fail GPU 1: /],
    ["exclusive compute mode", { "Compute Mode": "Exclusive_Process" }, /^mode warn GPU 1: .*-c DEFAULT/],
    ["prohibited compute mode", { "Compute Mode": "Prohibited" }, /^mode fail GPU 1: /],
    ["heat", { "Clocks Event Reasons/HW Slowdown/HW Thermal Slowdown": "Active" }, /^clocks warn GPU 1 \(too hot\): /],
    [
      "the power brake as older drivers write it",
      {
        "Clocks Throttle Reasons/HW Slowdown/HW Power Brake Slowdown": "Active",
        "Clocks Event Reasons/HW Slowdown/HW Power Brake Slowdown": undefined,
      },
      /^clocks warn GPU 1 \(power brake\)/,
    ],
    [
      "a lowered power limit",
      { "GPU Power Readings/Current Power Limit": "300.00 W" },
      /^power warn GPU 1 \(300 of 700 W\)/,
    ],
    ["a temperature near the limit", { "Temperature/GPU T.Limit Temp": "3 C" }, /^temperature warn GPU 1 \(39 C\)/],
    ["a fabric that is not set up", { "Fabric/State": "In Progress" }, /^fabric fail GPU 1 \(In Progress\): .*802/],
    ["a GPU that wants a reset", { "GPU Reset Status/Reset Required": "Yes" }, /^reset fail GPU 1: .*-r -i 1/],
  ];
  it.each(CASES)("sees %s", async (_, second, line) => {
    expect(await gpuLines([{}, second])).toContainEqual(expect.stringMatching(line));
  });

  it("reads how the GPUs are linked", async () => {
    const matrix = String.raw`\t\033[4mGPU0\tGPU1\tGPU2\tCPU Affinity\033[0m\nGPU0\t X \tNV18\tSYS\t0-31\nGPU1\tNV18\t X \tPHB\t0-31\nGPU2\tSYS\tPHB\t X \t32-63\n`;
    onPath(installSmi(host.root, "", `case "$*" in "topo -m") printf '${matrix}' ;; *) exit 2 ;; esac`));
    expect(await doctor("links")).toEqual(["links data 0-1:NV18 0-2:SYS 1-2:PHB"]);
  });
});
