import type { Ec2Settings } from "../../plan/ec2-ladder";
import type { SshTarget } from "../runner/request";
import type { LaunchedMachine } from "./launch-request";

/** How the machines of a stack are reached by SSH, whichever they are. */
export interface WayIn {
  readonly ec2: Ec2Settings;
  readonly identityFile: string;
}

/**
 * The host that a machine is. Its address may have been another machine's yesterday: its key goes by the machine's id, and is
 * trusted on first use.
 */
export function machineTarget(machine: LaunchedMachine, { ec2, identityFile }: WayIn): SshTarget {
  const { name, instanceId, publicAddress, privateAddress } = machine;
  const address = ec2.publicAddress ? (publicAddress ?? privateAddress) : privateAddress;
  return {
    ...plannedTarget(name, { ec2, identityFile }),
    host: ec2.reach === "ssm" ? instanceId : address,
    hostKeyAlias: instanceId,
    instance: { id: instanceId, region: ec2.region, isSpot: machine.market === "spot" },
    ...(ec2.reach === "ssm" && { proxyCommand: sessionManager(ec2.region, instanceId) }),
  };
}

/** The same before there is a machine: it has a name, and no address. */
export function plannedTarget(name: string, { ec2, identityFile }: WayIn): SshTarget {
  return {
    kind: "ssh",
    name,
    host: "",
    user: ec2.sshUser,
    port: 22,
    identityFile,
    hostKeys: "accept-new",
    sudo: "always",
  };
}

/** After AWS's page "Allow and control permissions for SSH connections through Session Manager". */
function sessionManager(region: string, instanceId: string): string {
  const parts = ["aws", "ssm", "start-session", "--region", region, "--target", instanceId];
  return [...parts, "--document-name", "AWS-StartSSHSession", "--parameters", "portNumber=%p"].join(" ");
}
