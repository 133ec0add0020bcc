import type { Settings } from "./settings";

/** Whether no other stack may be on the stack's machines; what is rented or borrowed is for one alone unless told otherwise. */
export function isExclusive({ exclusive, target }: Settings): boolean {
  return exclusive ?? (target === "ssh" || target === "ec2");
}

/** What becomes of runtimes and weights when the stack goes; a borrowed machine is given back as it was unless told otherwise. */
export function cacheAtDestroy({ cache, target }: Settings): "keep" | "remove" {
  return cache ?? (target === "ssh" || target === "kubernetes" ? "remove" : "keep");
}
