import { describe, expect, it } from "vitest";
import { linkedDevices, readLinks, slowGroups, slowestLink } from "../../plan/topology";

/** Four GPUs in two NVLink pairs, as A40 or A100 PCIe bridges make them: 0-1 and 2-3. */
const PAIRS = readLinks("0-1:NV4 0-2:SYS 0-3:SYS 1-2:SYS 1-3:SYS 2-3:NV4");
/** The same with the bridges across: 0-2 and 1-3. */
const CROSSED = readLinks("0-1:PHB 0-2:NV4 0-3:SYS 1-2:SYS 1-3:NV4 2-3:PIX");

describe("links between GPUs", () => {
  it("reads the words of nvidia-smi topo", () => {
    expect(readLinks("0-1:NV18 0-2:PIX 0-3:PXB 0-4:PHB 0-5:NODE 0-6:SYS 0-7:N/A").map(({ link }) => link)).toEqual([
      "nvlink",
      "pcie-switch",
      "pcie-switch",
      "pcie-host",
      "pcie-host",
      "pcie-socket",
      "unknown",
    ]);
  });

  it("finds the slowest among some of them", () => {
    expect(slowestLink([0, 1], PAIRS)).toBe("nvlink");
    expect(slowestLink([0, 1, 2], PAIRS)).toBe("pcie-socket");
    expect(slowestLink([0], PAIRS)).toBe("unknown");
  });

  it("sees no slow group where each copy stays inside a pair", () => {
    expect(slowGroups({ gpuIndices: [0, 1, 2, 3], tensorParallel: 2 }, PAIRS)).toEqual([]);
    expect(slowGroups({ gpuIndices: [0, 1, 2, 3], tensorParallel: 1 }, CROSSED)).toEqual([]);
  });

  it("names each group that crosses a slow link", () => {
    expect(slowGroups({ gpuIndices: [0, 1, 2, 3], tensorParallel: 4 }, PAIRS)).toEqual([
      { gpus: [0, 1, 2, 3], link: "pcie-socket" },
    ]);
    expect(slowGroups({ gpuIndices: [0, 1, 2, 3], tensorParallel: 2 }, CROSSED)).toEqual([
      { gpus: [0, 1], link: "pcie-host" },
      { gpus: [2, 3], link: "pcie-switch" },
    ]);
  });

  it("finds GPUs that NVLink joins, where there are enough", () => {
    expect(linkedDevices({ gpuIndices: [0, 1, 2, 3], tensorParallel: 2 }, CROSSED)).toEqual([0, 2, 1, 3]);
    expect(linkedDevices({ gpuIndices: [0, 1], tensorParallel: 2 }, CROSSED)).toEqual([0, 2]);
    expect(linkedDevices({ gpuIndices: [0, 1, 2, 3], tensorParallel: 4 }, PAIRS)).toBeUndefined();
  });
});
