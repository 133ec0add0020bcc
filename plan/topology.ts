import type { GpuLink } from "./facts";
import type { Plan } from "./plan";

/** How two GPUs of one host reach each other. */
export interface PairLink {
  /** As `nvidia-smi` numbers them. */
  readonly gpus: readonly [number, number];
  readonly link: GpuLink;
}

/** GPUs that share one copy of the model and wait for a link slower than NVLink. */
export interface SlowGroup {
  readonly gpus: readonly number[];
  /** The slowest link among them. */
  readonly link: GpuLink;
}

type Layout = Pick<Plan, "gpuIndices" | "tensorParallel">;

/** Best first. */
const ORDER: readonly GpuLink[] = ["unknown", "nvlink", "pcie-switch", "pcie-host", "pcie-socket", "none"];

/** What people read of a link. */
export const LINK_NAMES: Readonly<Record<GpuLink, string>> = {
  nvlink: "NVLink",
  "pcie-switch": "a PCIe switch",
  "pcie-host": "the CPU's PCIe bridge",
  "pcie-socket": "the link between two CPU sockets",
  none: "no link",
  unknown: "an unknown link",
};

/**
 * Reads pairs as `0-1:NV18 0-2:SYS`, the words of `nvidia-smi topo -m`: NV# is NVLink, PIX and PXB cross PCIe switches only,
 * PHB and NODE the CPU, SYS another socket.
 */
export function readLinks(text: string): PairLink[] {
  return [...text.matchAll(/(\d+)-(\d+):(\S+)/g)].map(([, one, other, word]) => ({
    gpus: [Number(one), Number(other)],
    link: linkOf(word ?? ""),
  }));
}

function linkOf(word: string): GpuLink {
  if (/^NV\d+$/.test(word)) return "nvlink";
  if (word === "PIX" || word === "PXB") return "pcie-switch";
  if (word === "PHB" || word === "NODE") return "pcie-host";
  return word === "SYS" ? "pcie-socket" : "unknown";
}

/** The slowest of the links between any two of these GPUs; `unknown` when none of them is known. */
export function slowestLink(gpus: readonly number[], links: readonly PairLink[]): GpuLink {
  return links
    .filter(({ gpus: [one, other] }) => gpus.includes(one) && gpus.includes(other))
    .map(({ link }) => link)
    .reduce<GpuLink>((worst, link) => (ORDER.indexOf(link) > ORDER.indexOf(worst) ? link : worst), "unknown");
}

/** The groups of a layout whose all-reduce crosses something slower than NVLink: each group is `tensorParallel` GPUs in a row. */
export function slowGroups({ gpuIndices, tensorParallel }: Layout, links: readonly PairLink[]): SlowGroup[] {
  if (tensorParallel < 2) return [];
  const starts = gpuIndices.map((_, index) => index).filter((index) => index % tensorParallel === 0);
  return starts
    .map((start) => gpuIndices.slice(start, start + tensorParallel))
    .map((gpus) => ({ gpus, link: slowestLink(gpus, links) }))
    .filter(({ link }) => link !== "nvlink" && link !== "unknown");
}

/**
 * An order of as many GPUs in which every group is joined by NVLink throughout; undefined when there is none.
 * Takes GPUs greedily: NVLink comes in pairs, in islands of four or eight, or everywhere, where that finds what there is.
 */
export function linkedDevices(
  { gpuIndices, tensorParallel }: Layout,
  links: readonly PairLink[],
): number[] | undefined {
  const all = [...new Set(links.flatMap(({ gpus }) => gpus))].sort((one, other) => one - other);
  const isLinked = (one: number, other: number) => slowestLink([one, other], links) === "nvlink";
  const chosen: number[] = [];
  while (chosen.length < gpuIndices.length) {
    const free = all.filter((gpu) => !chosen.includes(gpu));
    const group = free
      .map((first) => grow([first], free, tensorParallel, isLinked))
      .find((candidate) => candidate.length === tensorParallel);
    if (group === undefined) return undefined;
    chosen.push(...group);
  }
  return chosen;
}

function grow(
  start: readonly number[],
  free: readonly number[],
  size: number,
  isLinked: (one: number, other: number) => boolean,
): number[] {
  return free.reduce<number[]>(
    (group, gpu) =>
      group.length < size && !group.includes(gpu) && group.every((member) => isLinked(member, gpu))
        ? [...group, gpu]
        : group,
    [...start],
  );
}
