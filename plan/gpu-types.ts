import type { GpuLink, HostFacts } from "./facts";
import { nearestName } from "./nearest";
import type { Problem } from "./problem";

/** One kind of GPU, as far as planning needs to know it. */
export interface GpuType {
  /** e.g. `h100-80gb`. */
  readonly name: string;
  /** As `nvidia-smi` names it. */
  readonly model: string;
  /** As `nvidia-smi` reports it. */
  readonly memoryGiB: number;
  readonly computeCapability: string;
  /** How several of them in the usual machine reach each other. */
  readonly link: GpuLink;
}

const MIB_PER_GIB = 1024;
const type = (name: string, model: string, memoryMiB: number, computeCapability: string, link: GpuLink): GpuType => ({
  name,
  model,
  memoryGiB: memoryMiB / MIB_PER_GIB,
  computeCapability,
  link,
});

/** The catalogue. Memory as `nvidia-smi` prints it: measured for h100-80gb, from the vendor's and users' listings for the rest. */
export const gpuTypes: readonly GpuType[] = [
  type("b200-180gb", "NVIDIA B200", 183_359, "10.0", "nvlink"),
  type("h200-141gb", "NVIDIA H200", 143_771, "9.0", "nvlink"),
  type("h100-80gb", "NVIDIA H100 80GB HBM3", 81_559, "9.0", "nvlink"),
  type("a100-80gb", "NVIDIA A100-SXM4-80GB", 81_920, "8.0", "nvlink"),
  type("a100-40gb", "NVIDIA A100-SXM4-40GB", 40_960, "8.0", "nvlink"),
  type("l40s-48gb", "NVIDIA L40S", 46_068, "8.9", "pcie-host"),
  type("a6000-48gb", "NVIDIA RTX A6000", 49_140, "8.6", "pcie-host"),
  type("l4-24gb", "NVIDIA L4", 23_034, "8.9", "pcie-host"),
  type("a10g-24gb", "NVIDIA A10G", 23_028, "8.6", "pcie-host"),
  type("rtx4090-24gb", "NVIDIA GeForce RTX 4090", 24_564, "8.9", "pcie-host"),
  type("rtx3090-24gb", "NVIDIA GeForce RTX 3090", 24_576, "8.6", "pcie-host"),
  type("t4-16gb", "Tesla T4", 15_360, "7.5", "pcie-host"),
];

export function findGpuType(name: string): GpuType | undefined {
  return gpuTypes.find((candidate) => candidate.name === name.toLowerCase());
}

/** The problem of a name that the catalogue does not have, or undefined. */
export function gpuTypeProblem(name: string): Problem | undefined {
  if (findGpuType(name) !== undefined) return undefined;
  const names = gpuTypes.map((candidate) => candidate.name);
  const near = names.find((known) => known.startsWith(`${name.toLowerCase()}-`)) ?? nearestName(name, names);
  return {
    setting: "gpuType",
    what: "the catalogue has no such GPU",
    value: name,
    allowed: names.join(", "),
    ...(near !== undefined && { fix: `use \`${near}\`` }),
  };
}

/**
 * Facts of a machine that does not exist, so that planning needs no hardware. Everything but the GPUs is ample.
 * An unknown type gives a host without GPUs, which the planner refuses with the catalogue's names.
 */
export function hypotheticalHost({ gpus, gpuType }: { gpus: number; gpuType: string }): HostFacts {
  const found = findGpuType(gpuType);
  const count = found === undefined ? 0 : gpus;
  return {
    name: count > 0 ? `${count} x ${gpuType}` : gpuType,
    architecture: "x86_64",
    operatingSystem: { id: "ubuntu", version: "24.04", glibc: "2.39" },
    cpuCores: Math.max(8, 8 * count),
    memoryTotalGiB: Math.max(64, 128 * count),
    memoryAvailableGiB: Math.max(60, 120 * count),
    cache: { path: "/var/cache/tandem", freeGiB: 2000 },
    sharedMemoryGiB: 32,
    gpus: Array.from({ length: count }, (_, index) => ({
      index,
      uuid: `GPU-planned-${index}`,
      model: found?.model ?? gpuType,
      memoryGiB: found?.memoryGiB ?? 0,
      memoryUsedGiB: 0,
      ...(found && { computeCapability: found.computeCapability }),
    })),
    gpuLink: count < 2 || found === undefined ? "unknown" : found.link,
    driverVersion: "580.95.05",
    cudaVersion: "13.0",
    isRoot: true,
    serviceManager: "systemd-system",
    pythons: [{ path: "/usr/bin/python3.12", version: "3.12" }],
    hasCCompiler: true,
    environment: {},
  };
}
