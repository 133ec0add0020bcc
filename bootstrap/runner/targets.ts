import type { Settings } from "../../plan/settings";
import { sshHosts } from "../../plan/ssh-hosts";
import type { HostTarget } from "./request";

/** What a user's own machine is called among hosts. */
export const LOCAL_NAME = "local";

/**
 * The hosts of a stack, in the order of its settings; none where they are not known before, or there are none to ask for steps.
 */
export function hostTargets(settings: Settings): HostTarget[] {
  switch (settings.target) {
    case "local":
      return [{ kind: "local" }];
    case "ssh": {
      const { hostKeys = "known-hosts", sudo = "auto" } = settings.ssh ?? {};
      return sshHosts(settings).map((host) => ({ kind: "ssh", ...host, hostKeys, sudo }));
    }
    case "ec2":
      // They are known once they are launched.
      return [];
    case "kubernetes":
      // A cluster takes manifests, no host steps.
      return [];
    default:
      throw new Error(`unknown target ${JSON.stringify(settings.target satisfies never)}`);
  }
}

/** What people call the host; unique in its stack. */
export function targetName(target: HostTarget): string {
  return target.kind === "local" ? LOCAL_NAME : target.name;
}
