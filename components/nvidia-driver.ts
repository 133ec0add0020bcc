import * as pulumi from "@pulumi/pulumi";
import type { Host } from "../bootstrap/runner/observe";
import { driverDocument } from "../plan/driver";
import type { Settings } from "../plan/settings";
import { HostStep } from "./host-step";

/** What the driver step's script prints. */
export interface DriverResult {
  /** e.g. `580.173.02`. */
  readonly version: string;
  readonly branch: number;
  /** The kernel module that is loaded; `none` where that can't be seen. */
  readonly module: "open" | "proprietary" | "none";
  /** GPUs that the driver shows. */
  readonly gpus: number;
  /** Whether this stack installed it. */
  readonly installed: boolean;
  /** `proven` when a program initialised CUDA and saw every GPU; `not tried` on a host without Python. */
  readonly cuda: "proven" | "not tried";
  readonly warnings: readonly string[];
}

export interface NvidiaDriverArgs {
  readonly host: Host;
  readonly settings: Settings;
}

/** Packages of 400 MB, a module that is compiled, another user of dpkg, a reboot: an hour is ample. */
const DRIVER_TIMEOUT_SECONDS = 3600;

/**
 * The NVIDIA driver of one host, proven by CUDA. A good driver is left alone; what `driver.policy: ensure` may do to a missing
 * or old one is in `docs/driver.md`.
 */
export class NvidiaDriver extends pulumi.ComponentResource {
  readonly result: pulumi.Output<DriverResult>;

  /** @param name the host's name; its step is called `<name>-driver` */
  constructor(name: string, { host, settings }: NvidiaDriverArgs, opts: pulumi.ComponentResourceOptions = {}) {
    super("tandem:index:NvidiaDriver", name, {}, opts);
    const document = driverDocument(settings, host.facts);
    const step = new HostStep<DriverResult>(
      `${name}-driver`,
      { host, step: "driver", document, timeoutSeconds: DRIVER_TIMEOUT_SECONDS },
      { parent: this, dependsOn: opts.dependsOn, deletedWith: opts.deletedWith },
    );
    this.result = step.result;
    this.registerOutputs({ result: this.result });
  }
}
