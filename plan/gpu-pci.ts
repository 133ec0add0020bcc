import type { BusGpuFacts } from "./facts";
import { findGpuType, type GpuType } from "./gpu-types";

/** NVIDIA's GPU generations, as far as its drivers tell them apart. */
export type GpuGeneration =
  "older" | "maxwell" | "pascal" | "volta" | "turing" | "ampere" | "hopper" | "ada" | "blackwell" | "newer";

/**
 * The first PCI device id of each block that NVIDIA gave to one generation.
 * From the table of supported products in the README of driver 580 and the PCI ID database, November 2026.
 */
const GENERATION_BLOCKS: readonly (readonly [first: number, generation: GpuGeneration])[] = [
  [0x0000, "older"],
  [0x1340, "maxwell"],
  [0x15f0, "pascal"],
  [0x1600, "maxwell"],
  [0x1b00, "pascal"],
  [0x1d80, "volta"],
  [0x1e00, "turing"],
  [0x2080, "ampere"],
  [0x2180, "turing"],
  [0x2200, "ampere"],
  [0x2300, "hopper"],
  [0x2400, "ampere"],
  [0x2600, "ada"],
  [0x2900, "blackwell"],
  [0x3200, "newer"],
];

/** The catalogue's name of each device id. Cards of one name that differ in memory have ids of their own. */
const TYPE_OF_DEVICE: Readonly<Record<string, string>> = {
  "2901": "b200-180gb",
  "2335": "h200-141gb",
  "2330": "h100-80gb",
  "20b2": "a100-80gb",
  "20b0": "a100-40gb",
  "26b9": "l40s-48gb",
  "2230": "a6000-48gb",
  "27b8": "l4-24gb",
  "2237": "a10g-24gb",
  "2684": "rtx4090-24gb",
  "2204": "rtx3090-24gb",
  "1eb8": "t4-16gb",
};

/** Boards whose NVSwitches hang on InfiniBand functions: they don't show as NVSwitches on the bus and need NVLSM as well. */
const SWITCHED_BLACKWELL = new Set(["2901", "3182"]);

export function gpuGeneration(deviceId: string): GpuGeneration {
  const id = Number.parseInt(deviceId, 16);
  return GENERATION_BLOCKS.findLast(([first]) => first <= id)?.[1] ?? "older";
}

/** The catalogue's entry for a device on the bus, or undefined. */
export function gpuTypeOnBus(deviceId: string): GpuType | undefined {
  const name = TYPE_OF_DEVICE[deviceId.toLowerCase()];
  return name === undefined ? undefined : findGpuType(name);
}

/** Whether the GPUs are behind NVSwitches that the subnet manager NVLSM has to set up. */
export function needsSubnetManager(gpus: readonly BusGpuFacts[]): boolean {
  return gpus.length > 1 && gpus.some(({ deviceId }) => SWITCHED_BLACKWELL.has(deviceId.toLowerCase()));
}

/** vLLM's kernels are built for compute capability 7.0 (Volta) and newer. */
export function canServe(deviceId: string): boolean {
  return !["older", "maxwell", "pascal"].includes(gpuGeneration(deviceId));
}
