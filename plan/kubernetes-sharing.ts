import { GPU_DEVICE_CLASS, type ClusterFacts } from "./kubernetes-facts";
import type { Candidate } from "./kubernetes-nodes";
import type { Problem } from "./problem";
import type { Settings } from "./settings";

/** How a pod gets at its GPUs. */
export type GpuSharing =
  /** None: it serves on the CPU, the trainer beside vLLM in a container of its own. */
  | { readonly kind: "no-gpu"; readonly reason: string }
  /** Only vLLM uses them, and the device plugin hands them out. */
  | { readonly kind: "device-plugin"; readonly reason: string }
  /** One claim, used by each container that needs the GPUs. */
  | { readonly kind: "dra"; readonly apiVersion: "v1" | "v1beta2" | "v1beta1"; readonly reason: string }
  /** vLLM and the trainer in one container, since the device plugin gives a GPU to one container only. */
  | { readonly kind: "single-container"; readonly reason: string };

export type SharingChoice =
  | { readonly sharing: GpuSharing; readonly problem?: undefined }
  | { readonly sharing?: undefined; readonly problem: Problem };

/** Chooses how vLLM and the trainer share a pod's GPUs, and says why. */
export function chooseSharing(
  { kubernetes, training }: Settings,
  { chosen, gpus }: { readonly chosen?: Candidate; readonly gpus: number },
  { dra }: Pick<ClusterFacts, "dra">,
): SharingChoice {
  if (gpus === 0) return { sharing: { kind: "no-gpu", reason: "the pods serve on the CPU" } };
  const by = chosen?.gpus?.by ?? [];
  const offersClass = dra?.deviceClasses.includes(GPU_DEVICE_CLASS) ?? false;
  const canClaim = dra !== undefined && offersClass && by.includes("dra");
  const canPlug = by.includes("device-plugin");
  const trains = training.backend !== "off";
  if (kubernetes.gpuSharing === "dra" && !canClaim) {
    return { problem: cannotClaim(dra, offersClass) };
  }
  if (kubernetes.gpuSharing === "single-container" && !canPlug && !canClaim) return { problem: nobodyHandsOut() };
  const claim = (reason: string): SharingChoice =>
    dra === undefined
      ? { problem: nobodyHandsOut() }
      : { sharing: { kind: "dra", apiVersion: dra.apiVersion, reason } };
  if (!trains) {
    if (canPlug && kubernetes.gpuSharing !== "dra") {
      return { sharing: { kind: "device-plugin", reason: "nothing trains, so vLLM has the GPUs for itself" } };
    }
    return claim("vLLM has the GPUs for itself, by a claim: NVIDIA's DRA driver hands them out");
  }
  if (canClaim && kubernetes.gpuSharing !== "single-container") {
    return claim(
      "vLLM and the trainer in a container each, with one claim on the GPUs for both (Dynamic Resource Allocation)",
    );
  }
  if (!canPlug) return { problem: nobodyHandsOut() };
  const why =
    kubernetes.gpuSharing === "single-container"
      ? "as the settings ask for"
      : "since this cluster has no NVIDIA DRA driver, and the device plugin gives a GPU to one container only";
  return { sharing: { kind: "single-container", reason: `vLLM and the trainer in one container, ${why}` } };
}

function cannotClaim(dra: ClusterFacts["dra"], offersClass: boolean): Problem {
  const what =
    dra === undefined
      ? "the API server does not serve resource.k8s.io"
      : offersClass
        ? "no ResourceSlice of the chosen nodes offers a whole GPU"
        : `there is no DeviceClass ${GPU_DEVICE_CLASS}`;
  return {
    setting: "kubernetes.gpuSharing",
    what: `GPUs can't be claimed in this cluster: ${what}`,
    value: "dra",
    allowed: "auto or single-container",
    fix: "install NVIDIA's DRA driver for GPUs with Kubernetes 1.34 or newer, or set it to auto",
  };
}

function nobodyHandsOut(): Problem {
  return {
    setting: "kubernetes.gpuSharing",
    what: "the device plugin hands out no GPUs on the chosen nodes, and one container for both needs it to",
    value: "single-container",
    allowed: "auto or dra",
    fix: "set it to auto",
  };
}
