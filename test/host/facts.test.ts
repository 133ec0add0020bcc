import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { HostFacts } from "../../plan/facts";
import { freePort } from "../fixtures/free-port";
import { TestHost } from "./host";

let host: TestHost;
beforeEach(() => {
  host = new TestHost();
});
afterEach(() => host.close());

async function facts(): Promise<HostFacts & { stderr: string; seconds: number }> {
  const started = Date.now();
  const answer = await host.run([], {}, "facts.sh");
  expect(answer.code).toBe(0);
  return { ...(JSON.parse(answer.stdout) as HostFacts), stderr: answer.stderr, seconds: (Date.now() - started) / 1000 };
}

const recorded = path.join(__dirname, "fixtures/nvidia-smi-2xh100");

/**
 * Stands for the driver's nvidia-smi: plays back what it printed on a machine with 2 × H100 (driver 580.159.04) on
 * 25 November 2026. `facts.sh` was run there as well and gave the same facts.
 * @param change shell lines that come first, for what no machine at hand does
 */
function installRecordedDriver(change = ""): void {
  const folder = path.join(host.root, "driver");
  mkdirSync(folder);
  const program = `#!/bin/sh
${change}
case "$*" in
  --query-gpu=index,uuid,name,memory.total,memory.used,compute_cap*) cat "${recorded}/query-gpu.txt" ;;
  "topo -m") cat "${recorded}/topo-m.txt" ;;
  "topo -p2p r") cat "${recorded}/topo-p2p-r.txt" ;;
  "") cat "${recorded}/plain.txt" ;;
  *) exit 2 ;;
esac
`;
  writeFileSync(path.join(folder, "nvidia-smi"), program);
  chmodSync(path.join(folder, "nvidia-smi"), 0o755);
  host.environment["PATH"] = `${folder}:${process.env["PATH"]}`;
}

describe("facts.sh", () => {
  it("tells what this machine is, in a moment", async () => {
    const found = await facts();
    expect(found).toMatchObject({ isRoot: process.getuid?.() === 0, serviceManager: "supervisor", gpuLink: "unknown" });
    expect(found.name).toBe(readFileSync("/proc/sys/kernel/hostname", "utf8").trim());
    expect(found.memoryTotalGiB).toBeGreaterThan(found.memoryAvailableGiB);
    expect(found.cache.path).toBe(host.environment["TANDEM_CACHE_DIR"]);
    expect(found.cache.freeGiB).toBeGreaterThan(0);
    expect(found.pythons.length).toBeGreaterThan(0);
    for (const python of found.pythons) expect(python.version).toMatch(/^3\.1[0-3]\.\d+/);
    // 0.2 s when it is quiet; other tests run beside this one.
    expect(found.seconds).toBeLessThan(3);
  });

  it("tells of the disk of the stacks' folders where it is another one than the cache's", async () => {
    expect((await facts()).stacks).toBeUndefined();
    // A memory file system is another one than that of the tests' folders.
    host.environment["TANDEM_HOST_DIR"] = "/dev/shm/not-there-yet/tandem";
    expect((await facts()).stacks).toMatchObject({ path: "/dev/shm/not-there-yet/tandem" });
  });

  it("names who holds the port", async () => {
    const port = await freePort();
    host.environment["TANDEM_PORT"] = String(port);
    expect((await facts()).portHolder).toBeUndefined();
    const server = createServer().listen(port, "127.0.0.1");
    try {
      expect((await facts()).portHolder).toMatchObject({
        processId: process.pid,
        command: expect.stringContaining("node") as string,
      });
    } finally {
      server.close();
    }
  });

  it("passes on the variables that GPU libraries read, whatever is in them, and no others", async () => {
    Object.assign(host.environment, { NCCL_DEBUG: `a "b" \\ 'c'\n$(id)`, LD_LIBRARY_PATH: "/opt/x", SECRET_KEY: "s" });
    const { environment } = await facts();
    expect(environment).toMatchObject({ NCCL_DEBUG: `a "b" \\ 'c'\n$(id)`, LD_LIBRARY_PATH: "/opt/x" });
    expect(Object.keys(environment).filter((name) => !/^(NCCL|NVSHMEM|TORCH|GLOO|UCX|LD)_/.test(name))).toEqual([]);
  });

  it("reads GPUs, links, peer access and versions from nvidia-smi", async () => {
    installRecordedDriver();
    expect(await facts()).toMatchObject({
      gpus: [
        { index: 0, model: "NVIDIA H100 80GB HBM3", memoryGiB: 79.65, memoryUsedGiB: 0, computeCapability: "9.0" },
        { index: 1, model: "NVIDIA H100 80GB HBM3", memoryGiB: 79.65, memoryUsedGiB: 0, computeCapability: "9.0" },
      ],
      gpuLink: "nvlink",
      peerAccess: true,
      driverVersion: "580.159.04",
      cudaVersion: "13.0",
    });
  });

  it("tells what is on the bus without a driver", async () => {
    const sys = path.join(host.root, "sys");
    for (const [address, device, pciClass] of [
      ["0000:1b:00.0", "0x2330", "0x030200"],
      ["0000:05:00.0", "0x22a3", "0x068000"],
    ] as const) {
      const folder = path.join(sys, "bus/pci/devices", address);
      mkdirSync(folder, { recursive: true });
      writeFileSync(path.join(folder, "vendor"), "0x10de\n");
      writeFileSync(path.join(folder, "device"), `${device}\n`);
      writeFileSync(path.join(folder, "class"), `${pciClass}\n`);
    }
    host.environment["TANDEM_SYS"] = sys;
    expect(await facts()).toMatchObject({
      gpus: [],
      busGpus: [{ address: "0000:1b:00.0", deviceId: "2330" }],
      nvSwitches: 1,
      secureBoot: false,
    });
  });

  it("takes the slowest link of any two GPUs, and peer access only when all have it", async () => {
    const matrix = String.raw`\tGPU0\tGPU1\tGPU2\nGPU0\t X \tNV18\tSYS\nGPU1\tNV18\t X \tPHB\nGPU2\tSYS\tPHB\t X \n`;
    const peers = String.raw` \tGPU0\tGPU1\n GPU0\tX\tCNS\n GPU1\tCNS\tX\n`;
    installRecordedDriver(
      `case "$*" in "topo -m") printf '${matrix}'; exit ;; "topo -p2p r") printf '${peers}'; exit ;; esac`,
    );
    expect(await facts()).toMatchObject({ gpuLink: "pcie-socket", peerAccess: false });
  });

  it("says that the driver hangs instead of hanging itself", async () => {
    installRecordedDriver("exec sleep 60");
    const found = await facts();
    expect(found).toMatchObject({ gpus: [], gpuLink: "unknown" });
    expect(found.stderr).toContain("nvidia-smi does not answer within 6 s");
    expect(found.seconds).toBeLessThan(12);
  }, 20_000);

  it("reports no GPUs when the driver does not answer", async () => {
    installRecordedDriver("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18");
    const found = await facts();
    expect(found.gpus).toEqual([]);
    expect(found.stderr).toContain("finds no GPUs");
  });
});
