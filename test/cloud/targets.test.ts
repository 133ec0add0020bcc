import { describe, expect, it } from "vitest";
import { machineTarget } from "../../bootstrap/cloud/targets";
import { sshArguments } from "../../bootstrap/runner/ssh-config";
import type { ConnectionFiles } from "../../bootstrap/runner/ssh-folder";
import { ec2Of } from "../../plan/ec2-ladder";
import { parseSettings, type SettingsInput } from "../../plan/settings";

const MACHINE = {
  name: "ec2-1",
  instanceId: "i-0123456789abcdef0",
  instanceType: "g6.xlarge",
  zone: "us-east-1a",
  market: "spot",
  publicAddress: "198.51.100.7",
  privateAddress: "10.77.0.9",
} as const;
const FILES = { config: "/c", socket: "/s" } as ConnectionFiles;

function targetWith(ec2: Partial<NonNullable<SettingsInput["ec2"]>>) {
  const block = { region: "us-east-1", instanceTypes: "g6.xlarge", allowedCidr: "203.0.113.7/32", ...ec2 };
  const { settings } = parseSettings({ target: "ec2", ec2: block });
  return machineTarget(MACHINE, { ec2: ec2Of(settings!), identityFile: "/keys/s" });
}

describe("reaching a machine of EC2", () => {
  it("goes to its public address, and knows its key by the machine, not by the address", () => {
    const target = targetWith({});
    expect(target).toMatchObject({ host: "198.51.100.7", user: "ubuntu", hostKeys: "accept-new", sudo: "always" });
    expect(target.instance).toEqual({ id: MACHINE.instanceId, region: "us-east-1", isSpot: true });
    expect(sshArguments(target, FILES)).toContain(`HostKeyAlias=${MACHINE.instanceId}`);
  });

  it("goes to its private address where it is to have no public one", () => {
    const target = targetWith({ publicAddress: false, subnetIds: "subnet-0123456789abcdef0" });
    expect(target.host).toBe("10.77.0.9");
  });

  it("goes through Session Manager where no port is open", () => {
    const target = targetWith({ reach: "ssm", instanceProfile: "p" });
    expect(target.host).toBe(MACHINE.instanceId);
    const proxy = sshArguments(target, FILES).find((argument) => argument.startsWith("ProxyCommand="));
    expect(proxy).toBe(
      "ProxyCommand=aws ssm start-session --region us-east-1 --target i-0123456789abcdef0 --document-name AWS-StartSSHSession --parameters portNumber=%p",
    );
  });
});
