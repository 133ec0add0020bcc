import type { SshTarget } from "./request";
import type { HostAnswer, HostCall } from "./transport";

/** Runs a host script on a host behind OpenSSH. */
export function callSsh(target: SshTarget, _call: HostCall): Promise<HostAnswer> {
  return Promise.reject(new Error(`${target.name} can't be reached by this version`));
}
