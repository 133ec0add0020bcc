import { describe, expect, it } from "vitest";
import { parseSettings, type HostFacts, type SettingsInput } from "../../plan";
import { driverDocument, kernelModule } from "../../plan/driver";
import type { BusGpuFacts } from "../../plan/facts";
import { gpuGeneration, gpuTypeOnBus } from "../../plan/gpu-pci";
import { H100S, planOf, refusalOf } from "./hosts";

function onBus(deviceIds: readonly string[]): BusGpuFacts[] {
  return deviceIds.map((deviceId, index) => ({ address: `0000:${(16 + index).toString(16)}:00.0`, deviceId }));
}

/** A host without a driver, with these GPUs on its bus. */
function bare(deviceIds: readonly string[], more: Partial<HostFacts> = {}): HostFacts {
  const host = { ...H100S(1), name: "bare", gpus: [], gpuLink: "unknown" as const, busGpus: onBus(deviceIds), ...more };
  return { ...host, driverVersion: undefined, cudaVersion: undefined };
}

const QWEN: SettingsInput = { model: "Qwen/Qwen3-0.6B" };
const ENSURE: SettingsInput = { ...QWEN, driver: { policy: "ensure" } };
const documentOf = (raw: SettingsInput, host: HostFacts) => driverDocument(parseSettings(raw).settings!, host);

describe("a host without a driver", () => {
  it("is planned from its bus where a driver will be installed, just as it will be planned with one", () => {
    const before = planOf({ ...ENSURE, gpus: 2 }, bare(["2330", "2330"]));
    const after = planOf({ ...ENSURE, gpus: 2 }, H100S(2));
    expect(before.perGpu).toEqual(after.perGpu);
    expect(before).toMatchObject({ gpuModel: "NVIDIA H100 80GB HBM3", gpuIndices: [0, 1] });
  });

  it("is refused under `keep`, with the way out", () => {
    expect(refusalOf(QWEN, bare(["2330"])).problems).toMatchObject([
      { setting: "driver.policy", value: "keep", fix: expect.stringContaining("ensure") as string },
    ]);
  });

  it("serves on the CPU when it is asked to, or when its GPU can't serve", () => {
    expect(planOf({ ...QWEN, gpus: 0 }, bare(["2330"])).device).toBe("cpu");
    expect(planOf(QWEN, bare(["1b06"])).device).toBe("cpu");
  });

  it("needs `gpuType` for a GPU that the catalogue does not know", () => {
    const host = bare(["2bb5"]);
    expect(refusalOf(ENSURE, host).problems).toMatchObject([{ setting: "gpuType", value: "PCI device 10de:2bb5" }]);
    expect(planOf({ ...ENSURE, gpuType: "h100-80gb" }, host).perGpu).toHaveLength(1);
  });

  it("has as many GPUs as its bus shows", () => {
    expect(refusalOf({ ...ENSURE, gpus: 3 }, bare(["2330", "2330"])).problems).toMatchObject([{ setting: "gpus" }]);
  });

  it("can't have one installed by a user who is not root", () => {
    const { problems } = refusalOf(ENSURE, bare(["2330"], { isRoot: false }));
    expect(problems).toMatchObject([
      { setting: "driver.policy", what: expect.stringContaining("needs root") as string },
    ]);
  });

  it.each([
    [["1db1"], 590, "driver.branch"],
    [["1db1", "2901"], 580, "driver"],
    [["2330"], 570, "driver.branch"],
  ] as const)("with %j and branch %i is a problem of `%s`", (devices, branch, setting) => {
    const wish: SettingsInput = { ...QWEN, gpuType: "t4-16gb", driver: { policy: "ensure", branch } };
    expect(refusalOf(wish, bare(devices)).problems).toMatchObject([{ setting }]);
  });
});

describe("a driver that is too old", () => {
  const old: HostFacts = { ...H100S(2), busGpus: onBus(["2330", "2330"]), driverVersion: "550.163.01" };

  it("is a problem under `keep` and none under `ensure`", () => {
    expect(refusalOf({ ...QWEN, gpus: 2 }, old).problems).toMatchObject([
      { setting: "driver", value: "550.163.01", allowed: "branch 580 or newer" },
    ]);
    expect(planOf({ ...ENSURE, gpus: 2 }, old).perGpu).toHaveLength(2);
  });

  it("will do for an environment of the user's own", () => {
    const raw: SettingsInput = { ...QWEN, gpus: 2, runtime: "existing", runtimePath: "/opt/vllm/bin/python" };
    expect(planOf(raw, old).perGpu).toHaveLength(2);
    expect(documentOf(raw, old).floor).toBeUndefined();
  });
});

describe("the kernel module", () => {
  it.each([
    ["2330", "hopper", "open"],
    ["20b2", "ampere", "open"],
    ["2237", "ampere", "open"],
    ["25b6", "ampere", "open"],
    ["27b8", "ada", "open"],
    ["1eb8", "turing", "open"],
    ["2191", "turing", "open"],
    ["2901", "blackwell", "open"],
    ["2bb5", "blackwell", "open"],
    ["1db1", "volta", "proprietary"],
    ["1b38", "pascal", "proprietary"],
    ["15f8", "pascal", "proprietary"],
    ["17fd", "maxwell", "proprietary"],
    ["102d", "older", "proprietary"],
  ] as const)("of device %s (%s) is the %s one", (deviceId, generation, module) => {
    expect(gpuGeneration(deviceId)).toBe(generation);
    expect(kernelModule(onBus([deviceId]))).toBe(module);
  });

  it("is proprietary where one GPU is too old for the open one", () => {
    expect(kernelModule(onBus(["2330", "1db1"]))).toBe("proprietary");
  });
});

describe("what the driver step is told", () => {
  it("is the floor of CUDA 13, how many GPUs must answer, and that NVSwitches need a fabric manager", () => {
    const host = bare(
      Array.from({ length: 8 }, () => "2330"),
      { nvSwitches: 4 },
    );
    expect(documentOf(ENSURE, host)).toEqual({
      policy: "ensure",
      branch: 580,
      floor: 580,
      module: "open",
      expectedGpus: 8,
      fabricManager: true,
      subnetManager: false,
      container: false,
      reboot: true,
      onDestroy: "keep",
    });
    expect(documentOf({ ...ENSURE, devices: [0, 3] }, host).expectedGpus).toBe(4);
  });

  it("is the same before and after the driver is there, so that a second run changes nothing", () => {
    const before = bare(["2330", "2330"]);
    const after = { ...H100S(2), busGpus: onBus(["2330", "2330"]).map((gpu) => ({ ...gpu, driver: "nvidia" })) };
    expect(documentOf(ENSURE, after)).toEqual(documentOf(ENSURE, before));
  });

  it("is that NVSwitches of Blackwell boards need the subnet manager too, though the bus does not show them", () => {
    const host = bare(Array.from({ length: 8 }, () => "2901"));
    expect(documentOf(ENSURE, host)).toMatchObject({ fabricManager: true, subnetManager: true });
  });
});

it("names GPUs on the bus by the catalogue, whatever the case of the id", () => {
  expect(gpuTypeOnBus("20B2")?.name).toBe("a100-80gb");
  expect(gpuTypeOnBus("ffff")).toBeUndefined();
});
