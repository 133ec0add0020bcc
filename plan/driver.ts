import type { BusGpuFacts, GpuFacts, HostFacts } from "./facts";
import { canServe, gpuGeneration, gpuTypeOnBus, needsSubnetManager, type GpuGeneration } from "./gpu-pci";
import { findGpuType } from "./gpu-types";
import type { Problem } from "./problem";
import type { Settings } from "./settings";

/** CUDA 13, which vLLM 0.26 to 0.33 is built for, needs this driver branch or a newer one. */
export const CUDA_13_DRIVER_BRANCH = 580;
/** The last branch that supports Maxwell, Pascal and Volta (NVIDIA's lifecycle table, November 2026). */
const LAST_BRANCH_BEFORE_TURING = 580;

/** What the driver step gets; `bootstrap/host/driver.sh` reads it. */
export interface DriverDocument {
  readonly policy: Settings["driver"]["policy"];
  readonly branch: number;
  /** The branch that the runtime needs at least; absent when it brings what it needs, or is the user's own. */
  readonly floor?: number;
  readonly module: KernelModule;
  readonly expectedGpus?: number;
  readonly fabricManager: boolean;
  readonly subnetManager: boolean;
  /** Whether GPUs are handed to containers. */
  readonly container: boolean;
  readonly reboot: boolean;
  readonly onDestroy: Settings["driver"]["onDestroy"];
  readonly repository?: string;
}

/** NVIDIA's two builds of its kernel module. */
export type KernelModule = "open" | "proprietary";

/** An environment of the user's own may be built for an older CUDA, so it has no floor. */
export function driverFloor({ runtime }: Settings): number | undefined {
  return runtime === "existing" || runtime === "archive" ? undefined : CUDA_13_DRIVER_BRANCH;
}

/** Whether the driver is there and new enough. */
export function hasGoodDriver(settings: Settings, { driverVersion }: HostFacts): boolean {
  if (driverVersion === undefined) return false;
  return !(Number.parseInt(driverVersion, 10) < (driverFloor(settings) ?? 0));
}

/** The GPUs on the bus that can serve; a card for the display may be too old. */
export function servingGpusOnBus({ busGpus = [] }: HostFacts): readonly BusGpuFacts[] {
  return busGpus.filter(({ deviceId, driver }) => canServe(deviceId) && driver !== "vfio-pci");
}

/**
 * Open module from Turing on, since it is the only one for Blackwell and newer; the proprietary one for what is older, which
 * the open one does not know.
 */
export function kernelModule(gpus: readonly BusGpuFacts[]): KernelModule {
  return gpus.some(({ deviceId }) => isBeforeTuring(gpuGeneration(deviceId))) ? "proprietary" : "open";
}

/** Everything that the driver step is told about one host. */
export function driverDocument(settings: Settings, host: HostFacts): DriverDocument {
  const { policy, branch, reboot, onDestroy, repository } = settings.driver;
  const expected = expectedCount(settings, servingGpusOnBus(host).length);
  const gpus = servingGpusOnBus(host);
  const floor = driverFloor(settings);
  const subnetManager = needsSubnetManager(gpus);
  return {
    policy,
    branch,
    ...(floor !== undefined && { floor }),
    module: kernelModule(gpus),
    ...(expected > 0 && { expectedGpus: expected }),
    fabricManager: (host.nvSwitches ?? 0) > 0 || subnetManager,
    subnetManager,
    container: settings.runtime === "container",
    reboot,
    onDestroy,
    ...(repository !== undefined && { repository }),
  };
}

/** How many GPUs must answer: all of the bus, or as many as the settings need. */
function expectedCount({ gpus, devices }: Settings, onBus: number): number {
  if (devices !== undefined) return Math.max(...devices) + 1;
  return gpus === "all" ? onBus : gpus;
}

/**
 * What `nvidia-smi` will say of the GPUs once there is a driver, from the catalogue by PCI device id, else from `gpuType`.
 * In the order of the bus, which is the order in which `nvidia-smi` counts.
 * @returns the GPUs, and a problem for those of which no memory size is known
 */
export function expectedGpus(settings: Settings, host: HostFacts): { gpus: GpuFacts[]; problems: Problem[] } {
  const wished = settings.gpuType === undefined ? undefined : findGpuType(settings.gpuType);
  const known = servingGpusOnBus(host).map(({ address, deviceId }, index) => {
    const found = gpuTypeOnBus(deviceId) ?? wished;
    if (found === undefined) return deviceId;
    const { model, memoryGiB, computeCapability } = found;
    return { index, uuid: `pci-${address}`, model, memoryGiB, memoryUsedGiB: 0, computeCapability };
  });
  const gpus = known.filter((gpu) => typeof gpu !== "string");
  const unknown = [...new Set(known.filter((gpu) => typeof gpu === "string"))];
  if (unknown.length === 0) return { gpus, problems: [] };
  const problem: Problem = {
    setting: "gpuType",
    what: `${host.name} has GPUs whose memory is not known before they have a driver`,
    value: unknown.map((deviceId) => `PCI device 10de:${deviceId}`).join(", "),
    fix: "set `gpuType` to the one of the catalogue that has as much memory, or install the driver by hand",
  };
  return { gpus, problems: [problem] };
}

/** What stands in the way of installing a driver on this host by `driver.policy: ensure`. */
export function installationProblems(settings: Settings, host: HostFacts): Problem[] {
  const { branch } = settings.driver;
  const generations = new Set(servingGpusOnBus(host).map(({ deviceId }) => gpuGeneration(deviceId)));
  const old = [...generations].filter(isBeforeTuring);
  const openOnly = [...generations].filter((generation) => generation === "blackwell" || generation === "newer");
  const floor = driverFloor(settings) ?? 0;
  const problems: Problem[] = [];
  if (branch < floor) {
    problems.push({
      setting: "driver.branch",
      what: "the branch is too old for CUDA 13, which vLLM is built for",
      value: String(branch),
      allowed: `${floor} or newer`,
      fix: `set it to ${floor}`,
    });
  }
  if (old.length > 0 && openOnly.length > 0) {
    problems.push({
      setting: "driver",
      what: `${host.name} has GPUs that need different kernel modules: ${old.join(", ")} the proprietary one, ${openOnly.join(", ")} the open one`,
      fix: "take one kind out of the machine",
    });
  }
  if (old.length > 0 && branch > LAST_BRANCH_BEFORE_TURING) {
    problems.push({
      setting: "driver.branch",
      what: `the branch no longer supports ${old.join(", ")}`,
      value: String(branch),
      allowed: `at most ${LAST_BRANCH_BEFORE_TURING}`,
      fix: `set it to ${LAST_BRANCH_BEFORE_TURING}`,
    });
  }
  if (!host.isRoot) {
    problems.push({
      setting: "driver.policy",
      what: `installing a driver on ${host.name} needs root`,
      value: "ensure",
      fix: "let the user use sudo without a password (`ssh.sudo`), or install the driver by hand",
    });
  }
  return problems;
}

function isBeforeTuring(generation: GpuGeneration): boolean {
  return ["older", "maxwell", "pascal", "volta"].includes(generation);
}
