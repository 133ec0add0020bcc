import type { Footprint } from "./footprint";

/** How two GPUs of one host reach each other, best first: NVLink, one PCIe switch, through the CPU, through another socket. */
export type GpuLink = "nvlink" | "pcie-switch" | "pcie-host" | "pcie-socket" | "none" | "unknown";

/** What `nvidia-smi` says of one GPU. */
export interface GpuFacts {
  readonly index: number;
  readonly uuid: string;
  /** e.g. `NVIDIA H100 80GB HBM3`. */
  readonly model: string;
  /** Total as `nvidia-smi` reports it; CUDA sees about 0.5 GiB less (79.65 and 79.18 GiB on an H100 80GB). */
  readonly memoryGiB: number;
  readonly memoryUsedGiB: number;
  /** e.g. `9.0`; absent when the driver is too old to say. */
  readonly computeCapability?: string;
}

/** One NVIDIA GPU as the PCI bus shows it, with or without a driver. */
export interface BusGpuFacts {
  /** e.g. `0000:1b:00.0`. */
  readonly address: string;
  /** PCI device id in hexadecimal, e.g. `2330`. */
  readonly deviceId: string;
  /** The kernel driver that has it, e.g. `nvidia`, `nouveau`, `vfio-pci`; absent when none has, or it could not be seen. */
  readonly driver?: string;
}

/** What the program knows of one host before it changes anything. Plain data; made by `bootstrap/host/facts.sh`. */
export interface HostFacts {
  readonly name: string;
  readonly architecture: string;
  readonly operatingSystem: { readonly id: string; readonly version: string; readonly glibc?: string };
  readonly cpuCores: number;
  /** The cores that this process may run on, where a container or `taskset` limits them; absent for 0 to `cpuCores` - 1. */
  readonly cpuIds?: readonly number[];
  readonly memoryTotalGiB: number;
  readonly memoryAvailableGiB: number;
  /** Folder for caches (weights, runtimes) and the free space of its disk. */
  readonly cache: { readonly path: string; readonly freeGiB: number };
  /** Folder of the stacks and the free space of its disk; absent where that is the cache's disk. */
  readonly stacks?: { readonly path: string; readonly freeGiB: number };
  /** What vLLM was measured to take of a GPU on earlier starts, whoever's they were. */
  readonly footprints?: readonly Footprint[];
  /** What the stack's own vLLM was started with, by `startKey`; absent when it does not run. */
  readonly startedWith?: Footprint;
  /** Free space of the memory file system, for adapters. */
  readonly sharedMemoryGiB: number;
  /** The GPUs that the driver shows; none without a working driver. */
  readonly gpus: readonly GpuFacts[];
  /** The GPUs on the PCI bus, in the order in which `nvidia-smi` counts; absent in an application container, which can't tell. */
  readonly busGpus?: readonly BusGpuFacts[];
  /** How many NVSwitches the bus shows. */
  readonly nvSwitches?: number;
  /** Whether the firmware loads signed kernel modules only. */
  readonly secureBoot?: boolean;
  /** The slowest link between any two of the host's GPUs; `unknown` with fewer than two. */
  readonly gpuLink: GpuLink;
  /** Whether CUDA peer access works between all GPUs; absent when it could not be asked. */
  readonly peerAccess?: boolean;
  readonly driverVersion?: string;
  /** Highest CUDA version that the driver supports, e.g. `13.0`. */
  readonly cudaVersion?: string;
  readonly isRoot: boolean;
  readonly serviceManager: "systemd-system" | "systemd-user" | "supervisor";
  /** Python interpreters from 3.10 to 3.13, best first. */
  readonly pythons: readonly { readonly path: string; readonly version: string }[];
  readonly hasCCompiler: boolean;
  /** Who listens on the port that was asked about; absent when it is free. */
  readonly portHolder?: { readonly processId?: number; readonly command?: string };
  /** Variables of the environment that the GPU libraries read and that must reach vLLM (NCCL, NVSHMEM, loader path). */
  readonly environment: Readonly<Record<string, string>>;
}
