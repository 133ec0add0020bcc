import type { GpuFacts, HostFacts } from "./facts";
import { gpuTypeProblem } from "./gpu-types";
import type { Problem } from "./problem";
import type { Settings } from "./settings";

/** CUDA 13, which vLLM 0.26 to 0.33 is built for, needs this driver branch or a newer one. */
const LEAST_DRIVER_BRANCH = 580;

export type DeviceChoice =
  | { readonly device: "cpu"; readonly problems: readonly Problem[] }
  | { readonly device: "cuda"; readonly gpus: readonly GpuFacts[]; readonly problems: readonly Problem[] };

/** Which GPUs of the host to use, or its CPU. A machine without GPUs serves on the CPU unless GPUs were asked for. */
export function chooseDevice(settings: Settings, host: HostFacts): DeviceChoice {
  const typeProblem = settings.gpuType === undefined ? undefined : gpuTypeProblem(settings.gpuType);
  if (typeProblem !== undefined) return { device: "cpu", problems: [typeProblem] };
  const wantsGpus = settings.devices !== undefined || (settings.gpus !== "all" && settings.gpus > 0);
  if (settings.gpus === 0 || (host.gpus.length === 0 && !wantsGpus)) return { device: "cpu", problems: [] };

  const gpus = pickGpus(settings, host);
  const countProblems = gpuProblems(settings, host);
  return {
    device: "cuda",
    gpus,
    problems: [...countProblems, ...(host.gpus.length > 0 ? driverProblems(settings, host) : [])],
  };
}

function pickGpus({ devices, gpus }: Settings, host: HostFacts): GpuFacts[] {
  if (devices !== undefined) return devices.flatMap((index) => host.gpus.find((gpu) => gpu.index === index) ?? []);
  return host.gpus.slice(0, gpus === "all" ? host.gpus.length : gpus);
}

function gpuProblems({ devices, gpus }: Settings, host: HostFacts): Problem[] {
  const there = host.gpus.map((gpu) => gpu.index);
  const noneFix =
    "set `gpus` to 0 to serve on the CPU; if the machine has GPUs, install NVIDIA's driver so that `nvidia-smi` answers";
  if (devices !== undefined) {
    const missing = devices.filter((index) => !there.includes(index));
    if (missing.length === 0) return [];
    return [
      {
        setting: "devices",
        what: `${host.name} has no GPU ${missing.join(", ")}`,
        value: devices.join(","),
        allowed: there.length === 0 ? "none: no GPU answers there" : there.join(", "),
        ...(there.length === 0 && { fix: noneFix }),
      },
    ];
  }
  if (gpus === "all" || gpus <= there.length) return [];
  return [
    {
      setting: "gpus",
      what: `${host.name} has ${there.length === 0 ? "no GPU that answers" : `only ${there.length}`}`,
      value: String(gpus),
      allowed: there.length === 0 ? "0" : `0 to ${there.length}, or all`,
      fix: there.length === 0 ? noneFix : `set \`gpus\` to ${there.length} or all`,
    },
  ];
}

function driverProblems({ runtime }: Settings, { driverVersion, name }: HostFacts): Problem[] {
  const fix = `install NVIDIA's driver of branch ${LEAST_DRIVER_BRANCH} or newer`;
  if (driverVersion === undefined) {
    return [
      {
        setting: "driver",
        what: `${name} has GPUs but no working NVIDIA driver`,
        allowed: `branch ${LEAST_DRIVER_BRANCH} or newer`,
        fix,
      },
    ];
  }
  const branch = Number.parseInt(driverVersion, 10);
  // An environment of the user's own may be built for an older CUDA.
  if (!(branch < LEAST_DRIVER_BRANCH) || runtime === "existing" || runtime === "archive") return [];
  return [
    {
      setting: "driver",
      what: "the NVIDIA driver is too old for CUDA 13, which vLLM is built for",
      value: driverVersion,
      allowed: `branch ${LEAST_DRIVER_BRANCH} or newer`,
      fix,
    },
  ];
}
