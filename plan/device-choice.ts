import { driverFloor, expectedGpus, hasGoodDriver, installationProblems, servingGpusOnBus } from "./driver";
import type { GpuFacts, HostFacts } from "./facts";
import { gpuTypeProblem } from "./gpu-types";
import type { Problem } from "./problem";
import type { Settings } from "./settings";

export type DeviceChoice =
  | { readonly device: "cpu"; readonly problems: readonly Problem[] }
  | { readonly device: "cuda"; readonly gpus: readonly GpuFacts[]; readonly problems: readonly Problem[] };

/** Which GPUs of the host to use, or its CPU. A machine without GPUs serves on the CPU unless GPUs were asked for. */
export function chooseDevice(settings: Settings, host: HostFacts): DeviceChoice {
  const typeProblem = settings.gpuType === undefined ? undefined : gpuTypeProblem(settings.gpuType);
  if (typeProblem !== undefined) return { device: "cpu", problems: [typeProblem] };
  if (settings.gpus === 0) return { device: "cpu", problems: [] };
  if (host.gpus.length === 0 && servingGpusOnBus(host).length > 0) return choiceBeforeDriver(settings, host);
  const wantsGpus = settings.devices !== undefined || settings.gpus !== "all";
  if (host.gpus.length === 0 && !wantsGpus) return { device: "cpu", problems: [] };

  const gpus = pickGpus(settings, host);
  const countProblems = gpuProblems(settings, host);
  return {
    device: "cuda",
    gpus,
    problems: [...countProblems, ...(host.gpus.length > 0 ? driverProblems(settings, host) : [])],
  };
}

/** The bus shows GPUs and no driver does: they are planned as the catalogue knows them where a driver will be installed. */
function choiceBeforeDriver(settings: Settings, host: HostFacts): DeviceChoice {
  const count = servingGpusOnBus(host).length;
  if (settings.driver.policy === "keep") {
    const problem = {
      setting: "driver.policy",
      what: `${host.name} has ${count === 1 ? "a GPU" : `${count} GPUs`} and no working NVIDIA driver`,
      value: "keep",
      fix: "set `driver.policy` to ensure to have it installed, or `gpus` to 0 to serve on the CPU",
    };
    return { device: "cuda", gpus: [], problems: [problem] };
  }
  const { gpus, problems } = expectedGpus(settings, host);
  const planned = { ...host, gpus };
  const countProblems = problems.length > 0 ? [] : gpuProblems(settings, planned);
  return {
    device: "cuda",
    gpus: pickGpus(settings, planned),
    problems: [...problems, ...countProblems, ...installationProblems(settings, host)],
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

function driverProblems(settings: Settings, host: HostFacts): Problem[] {
  if (hasGoodDriver(settings, host)) return [];
  const floor = driverFloor(settings);
  const version = host.driverVersion;
  if (settings.driver.policy === "ensure") return installationProblems(settings, host);
  const fix = "set `driver.policy` to ensure to have it installed, or install NVIDIA's driver by hand";
  if (version === undefined) {
    return [{ setting: "driver", what: `${host.name} has GPUs but no working NVIDIA driver`, fix }];
  }
  return [
    {
      setting: "driver",
      what: "the NVIDIA driver is too old for CUDA 13, which vLLM is built for",
      value: version,
      allowed: `branch ${floor} or newer`,
      fix,
    },
  ];
}
