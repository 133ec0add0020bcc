import type { HostFacts } from "./facts";
import { hypotheticalHost } from "./gpu-types";

/** One EC2 instance type with NVIDIA GPUs, as far as choosing and planning need to know it. */
export interface InstanceType {
  /** e.g. `g6.12xlarge`. */
  readonly name: string;
  readonly gpus: number;
  /** A name of the catalogue of GPUs, e.g. `l4-24gb`. */
  readonly gpuType: string;
  readonly vcpus: number;
  readonly memoryGiB: number;
  /** Whether it can have Elastic Fabric Adapter interfaces. */
  readonly efa: boolean;
  /** Whether its GPUs reach each other by NVLink. */
  readonly nvlink: boolean;
  /** On demand, Linux, us-east-1, in US dollars an hour, to a tenth of a cent. It changes: see `CATALOGUE_SOURCE`. */
  readonly approximatePriceUsd: number;
}

/**
 * Where the catalogue's facts come from; shown wherever a price is. Checked row by row on 26 November 2026: GPUs, vCPUs, memory and EFA
 * with AWS's pages "Specifications for Amazon EC2 accelerated computing instances" and "Elastic Fabric Adapter" (copies of 2026),
 * prices with the table that Karpenter generated from AWS's price list on 9 February 2026 (pkg/providers/pricing); four of them, of
 * g6e, p5 and p6, were read there again on 27 July 2026. Not asked: AWS itself.
 */
export const CATALOGUE_SOURCE = {
  shapes: "AWS's specifications of accelerated computing instances and its list of types with EFA, 2026",
  prices: "AWS's price list for Linux on demand in us-east-1, as of 9 February 2026",
  caveat:
    "approximate: other regions cost up to two thirds more, spot costs less; disks, addresses and traffic come on top",
} as const;

type Row = readonly [size: string, gpus: number, vcpus: number, memoryGiB: number, priceUsd: number];

/** Of the families without NVLink, all sizes from 8xlarge on have EFA. */
const EFA_SIZE = /\.(8|12|16|24|48)xlarge$/;

function family(name: string, gpuType: string, nvlink: boolean, rows: readonly Row[]): InstanceType[] {
  return rows.map(([size, gpus, vcpus, memoryGiB, approximatePriceUsd]) => {
    const full = `${name}.${size}`;
    return {
      name: full,
      gpus,
      gpuType,
      vcpus,
      memoryGiB,
      efa: nvlink || EFA_SIZE.test(full),
      nvlink: nvlink && gpus > 1,
      approximatePriceUsd,
    };
  });
}

/** The catalogue: types with NVIDIA GPUs that the runtimes support. */
export const INSTANCE_TYPES: readonly InstanceType[] = [
  ...family("g5", "a10g-24gb", false, [
    ["xlarge", 1, 4, 16, 1.006],
    ["2xlarge", 1, 8, 32, 1.212],
    ["4xlarge", 1, 16, 64, 1.624],
    ["8xlarge", 1, 32, 128, 2.448],
    ["16xlarge", 1, 64, 256, 4.096],
    ["12xlarge", 4, 48, 192, 5.672],
    ["24xlarge", 4, 96, 384, 8.144],
    ["48xlarge", 8, 192, 768, 16.288],
  ]),
  ...family("g6", "l4-24gb", false, [
    ["xlarge", 1, 4, 16, 0.805],
    ["2xlarge", 1, 8, 32, 0.978],
    ["4xlarge", 1, 16, 64, 1.323],
    ["8xlarge", 1, 32, 128, 2.014],
    ["16xlarge", 1, 64, 256, 3.397],
    ["12xlarge", 4, 48, 192, 4.602],
    ["24xlarge", 4, 96, 384, 6.675],
    ["48xlarge", 8, 192, 768, 13.35],
  ]),
  ...family("g6e", "l40s-48gb", false, [
    ["xlarge", 1, 4, 32, 1.861],
    ["2xlarge", 1, 8, 64, 2.242],
    ["4xlarge", 1, 16, 128, 3.004],
    ["8xlarge", 1, 32, 256, 4.529],
    ["16xlarge", 1, 64, 512, 7.577],
    ["12xlarge", 4, 48, 384, 10.493],
    ["24xlarge", 4, 96, 768, 15.066],
    ["48xlarge", 8, 192, 1536, 30.131],
  ]),
  ...family("p4d", "a100-40gb", true, [["24xlarge", 8, 96, 1152, 21.958]]),
  ...family("p4de", "a100-80gb", true, [["24xlarge", 8, 96, 1152, 27.447]]),
  ...family("p5", "h100-80gb", true, [
    ["4xlarge", 1, 16, 256, 6.88],
    ["48xlarge", 8, 192, 2048, 55.04],
  ]),
  ...family("p5en", "h200-141gb", true, [["48xlarge", 8, 192, 2048, 63.296]]),
  ...family("p6-b200", "b200-180gb", true, [["48xlarge", 8, 192, 2048, 113.933]]),
];

export function findInstanceType(name: string): InstanceType | undefined {
  return INSTANCE_TYPES.find((candidate) => candidate.name === name);
}

/** Memory that one GPU of a type is sold with, in GB: `l4-24gb` has 24, of which `nvidia-smi` shows 22.5 GiB. */
export function nominalGpuMemoryGb(type: InstanceType): number {
  return Number(/-(\d+)gb$/.exec(type.gpuType)?.[1] ?? 0);
}

/**
 * Facts that stand in for those of a machine of this type until there is one, so that a plan that can't fit costs nothing.
 * Room on the disk is ample: the root volume is made as large as the plan needs it.
 */
export function instanceFacts(type: InstanceType): HostFacts {
  const facts = hypotheticalHost({ gpus: type.gpus, gpuType: type.gpuType });
  return {
    ...facts,
    name: type.name,
    cpuCores: type.vcpus,
    memoryTotalGiB: type.memoryGiB,
    // The system and its page cache take their part before anything starts; estimated.
    memoryAvailableGiB: type.memoryGiB * 0.95,
    sharedMemoryGiB: type.memoryGiB / 2,
  };
}
