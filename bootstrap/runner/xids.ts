/** What one number of NVIDIA's Xid errors means. */
export interface Xid {
  /** `warn`: a program's own fault, or worth watching; `fail`: the GPU can't be relied on. */
  readonly verdict: "warn" | "fail";
  readonly meaning: string;
  readonly cure: string;
}

const APPLICATION = "look at the program that ran on it; when many programs fail so, test the GPU (dcgmi diag -r 3)";
const RESET = "stop what runs on it and reset it (sudo nvidia-smi -r) or reboot; have it replaced when it comes back";
const REPLACE = "power the host off and on; have the GPU, its riser or its power supply checked when it comes back";

/**
 * The Xid numbers that matter here, after NVIDIA's "Xid Errors" guide, its catalog and its table of causes
 * (docs.nvidia.com/deploy/xid-errors, read in November 2026); the words are ours.
 */
export const XIDS: Readonly<Record<number, Xid>> = {
  8: { verdict: "warn", meaning: "the GPU stopped working on a program", cure: APPLICATION },
  13: { verdict: "warn", meaning: "a program made the GPU compute something illegal", cure: APPLICATION },
  31: { verdict: "warn", meaning: "a program touched GPU memory that is not its own", cure: APPLICATION },
  32: {
    verdict: "fail",
    meaning: "a command for the GPU arrived damaged, over PCIe or by a driver's fault",
    cure: RESET,
  },
  38: {
    verdict: "fail",
    meaning: "the GPU's firmware and the driver disagree",
    cure: "install another release of the driver",
  },
  43: { verdict: "warn", meaning: "a program on the GPU was stopped after its own fault", cure: APPLICATION },
  45: {
    verdict: "warn",
    meaning: "a program's work was cleared away, as when it is killed or after another error",
    cure: APPLICATION,
  },
  46: { verdict: "fail", meaning: "the GPU stopped responding", cure: RESET },
  48: { verdict: "fail", meaning: "memory error of two bits, which can't be corrected", cure: RESET },
  61: { verdict: "fail", meaning: "the GPU's own controller stopped at an internal error", cure: RESET },
  62: { verdict: "fail", meaning: "the GPU's own controller halted", cure: RESET },
  63: {
    verdict: "warn",
    meaning: "a bad memory row or page is marked to be replaced by a spare one",
    cure: "reset the GPU (sudo nvidia-smi -r) or reboot at the next occasion",
  },
  64: {
    verdict: "fail",
    meaning: "a bad memory row or page could not be replaced by a spare one",
    cure: "reset the GPU; have it replaced when it comes back",
  },
  68: { verdict: "warn", meaning: "a video engine stopped at an error", cure: APPLICATION },
  69: { verdict: "warn", meaning: "a program sent the GPU an unknown kind of work", cure: APPLICATION },
  74: {
    verdict: "fail",
    meaning: "error on an NVLink",
    cure: "reset all GPUs of the host or reboot; when it comes back, have the GPU or its baseboard checked",
  },
  79: { verdict: "fail", meaning: "the GPU has fallen off the bus", cure: REPLACE },
  92: { verdict: "warn", meaning: "many memory errors of one bit", cure: "watch it; uncorrectable ones may follow" },
  94: {
    verdict: "warn",
    meaning: "uncorrectable memory error that hit one program only",
    cure: "restart that program; reset the GPU at the next occasion",
  },
  95: {
    verdict: "fail",
    meaning: "uncorrectable memory error that may have hit every program on the GPU",
    cure: RESET,
  },
  109: { verdict: "warn", meaning: "switching between programs timed out", cure: APPLICATION },
  110: { verdict: "fail", meaning: "a security fault in the GPU", cure: REPLACE },
  119: { verdict: "fail", meaning: "the GPU's system processor (GSP) did not answer in time", cure: RESET },
  120: { verdict: "fail", meaning: "the GPU's system processor (GSP) failed", cure: RESET },
  121: {
    verdict: "warn",
    meaning: "a corrected error on the link between CPU and GPU",
    cure: "reset the GPU at the next occasion",
  },
  140: { verdict: "fail", meaning: "memory error that could not be recovered from", cure: RESET },
  143: { verdict: "fail", meaning: "the GPU could not be initialised", cure: REPLACE },
  149: { verdict: "fail", meaning: "NVLink error", cure: "reset all GPUs of the host or reboot" },
};

/** What a number means; an unknown one is worth a warning. */
export function describeXid(code: number): Xid {
  return (
    XIDS[code] ?? {
      verdict: "warn",
      meaning: "a GPU error",
      cure: `look up Xid ${code} in NVIDIA's catalog: docs.nvidia.com/deploy/xid-errors`,
    }
  );
}
