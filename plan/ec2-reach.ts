import type { Ec2Settings } from "./ec2-ladder";
import { exposureOf, isExposed, tlsMode } from "./exposure";
import type { Problem } from "./problem";
import type { Settings } from "./settings";

/** What is wrong with the way in to the machines. */
export function reachProblems({
  reach,
  allowedCidr,
  instanceProfile,
  publicAddress,
  subnetIds,
}: Ec2Settings): Problem[] {
  const problems: Problem[] = [];
  if (reach === "ssh" && allowedCidr === undefined) {
    problems.push({
      setting: "ec2.allowedCidr",
      what: "is missing, and without it nobody gets in by SSH",
      allowed: "your own address as others see it, such as 203.0.113.7/32",
      fix: "set it, or `ec2.reach` to ssm",
    });
  }
  for (const cidr of reach === "ssh" ? (allowedCidr ?? []) : []) {
    if (!cidr.endsWith("/0")) continue;
    problems.push({
      setting: "ec2.allowedCidr",
      what: "lets the whole internet knock at port 22",
      value: cidr,
      fix: "name your own address",
    });
  }
  if (reach === "ssm" && instanceProfile === undefined) {
    const fix = "name a profile that holds AmazonSSMManagedInstanceCore";
    problems.push({ setting: "ec2.instanceProfile", what: "is missing, and `ec2.reach: ssm` needs it", fix });
  }
  if (!publicAddress && subnetIds === undefined) {
    problems.push({
      setting: "ec2.publicAddress",
      what: "is off, and in a VPC of the stack's own a machine without an address reaches nothing",
      value: "false",
      fix: "give `ec2.subnetIds` with a way to the internet, or leave it out",
    });
  }
  return problems;
}

/** What is wrong with the way to the gateway, for which the machines' security group opens one port. */
export function exposureProblems(settings: Settings): Problem[] {
  if (!isExposed(settings)) return [];
  const isPublic = exposureOf(settings) === "public";
  const hasAddress = settings.ec2?.publicAddress === true;
  const problems: Problem[] = [];
  if (isPublic && !hasAddress) {
    const what = "is off, and without a public address `exposure: public` lets nobody in";
    problems.push({ setting: "ec2.publicAddress", what, value: "false", fix: "set `exposure` to private" });
  }
  if (!isPublic && hasAddress && settings.gateway.allowedCidrs.length === 0) {
    problems.push({
      setting: "gateway.allowedCidrs",
      what: "is missing, and nobody comes to a public address from a private one, which `exposure: private` lets in by itself",
      allowed: "the address ranges of those who may connect",
      fix: 'set it to your own address, such as ["203.0.113.7/32"], or `ec2.publicAddress` to false',
    });
  }
  if (tlsMode(settings) === "acme") {
    problems.push({
      setting: "gateway.tls.mode",
      what: "needs port 80, which stays closed, and a name that leads to a machine whose address nobody knows before",
      value: "acme",
      allowed: "self-signed with `exposure: private`, or files that the image holds",
      fix: "set `exposure` to private and leave it out, or `exposure` to tunnel",
    });
  }
  return problems;
}
