import { GetCallerIdentityCommand } from "@aws-sdk/client-sts";
import { describeRung, type Ec2Settings, type Rung } from "../../plan/ec2-ladder";
import { ProblemsError, type Problem } from "../../plan/problem";
import { findImage, type MachineImage } from "./ami";
import type { Clients } from "./clients";
import { readingProblems, readOfferings, readSubnets, readZones, regionProblem, type Subnet } from "./network-reads";
import { quotaShortages, type QuotaShortage } from "./quota";

/** What the cloud says before anything is made. */
export interface Preflight {
  readonly image: MachineImage;
  /** The region's zones, sorted. */
  readonly zones: readonly string[];
  /** The user's subnets; absent where the stack makes its own. */
  readonly subnets?: readonly Subnet[];
  /** What is left of the ladder, each choice in a zone that offers it. */
  readonly choices: readonly Rung[];
  /** Why choices fell away, for people. */
  readonly dropped: readonly string[];
}

/**
 * Who asks, and is that region there. Everything else would fail in the same way.
 * @returns the account's number
 * @throws ProblemsError
 */
export async function readAccount(clients: Clients): Promise<string> {
  try {
    const { Account = "" } = await clients.sts.send(new GetCallerIdentityCommand({}));
    const problem = await regionProblem(clients);
    if (problem !== undefined) throw new ProblemsError([problem]);
    return Account;
  } catch (error) {
    throw new ProblemsError(readingProblems(error, "say who it is", clients.region), "AWS can't be used");
  }
}

/**
 * Reads everything that can be known before a machine is asked for, all at once: the image, zones and what they offer, the quota,
 * the subnets' free addresses. Changes nothing. Who asks is known by then (`readAccount`).
 * @param rungs the ladder as it was planned
 * @throws ProblemsError with all that is in the way
 */
export async function preflight(clients: Clients, ec2: Ec2Settings, rungs: readonly Rung[]): Promise<Preflight> {
  const problems: Problem[] = [];
  const read = async <Result>(what: string, reading: Promise<Result>): Promise<Result | undefined> => {
    try {
      return await reading;
    } catch (error) {
      problems.push(...readingProblems(error, what, clients.region));
      return undefined;
    }
  };
  const types = [...new Set(rungs.map(({ instanceType }) => instanceType))];
  const { subnetIds } = ec2;
  const [image, zones, offered, shortages, subnets] = await Promise.all([
    read("look at the image", findImage(clients, ec2.ami)),
    read("list the region's zones", readZones(clients)),
    read("ask which zones offer the types", readOfferings(clients, types)),
    read("read the account's quotas", quotaShortages(clients, rungs, ec2.machines)),
    subnetIds === undefined ? undefined : read("look at the subnets", readSubnets(clients, subnetIds)),
  ]);
  if (
    image === undefined ||
    zones === undefined ||
    offered === undefined ||
    shortages === undefined ||
    problems.length > 0
  )
    throw new ProblemsError(problems, "The machines can't be had");
  const sifted = sift({ rungs, zones, offered, shortages, subnets, machines: ec2.machines });
  if (sifted.choices.length === 0) throw new ProblemsError(sifted.problems, "No machine of the ladder can be had");
  const dropped = sifted.problems.map(({ what, value }) => `not tried: ${value ?? ""} — ${what}`);
  return { image, zones, subnets, choices: sifted.choices, dropped };
}

interface Sieve {
  readonly rungs: readonly Rung[];
  readonly zones: readonly string[];
  readonly offered: ReadonlyMap<string, readonly string[]>;
  readonly shortages: readonly QuotaShortage[];
  readonly subnets?: readonly Subnet[];
  readonly machines: number;
}

/** The choices with their zones that pass, and why the others don't: one problem a rung. */
function sift({ rungs, zones, offered, shortages, subnets, machines }: Sieve) {
  const choices: Rung[] = [];
  const problems: Problem[] = [];
  for (const rung of rungs) {
    const shortage = shortages.find((candidate) => candidate.rung === rung);
    if (shortage !== undefined) {
      problems.push(quotaProblem(shortage));
      continue;
    }
    const wanted = rung.zone === undefined ? zones : [rung.zone];
    const here = wanted.filter((zone) => offered.get(rung.instanceType)?.includes(zone));
    if (here.length === 0) {
      problems.push(notOffered(rung, offered.get(rung.instanceType) ?? []));
      continue;
    }
    const reachable =
      subnets === undefined ? here : here.filter((zone) => subnets.some((subnet) => subnet.zone === zone));
    const roomy = reachable.filter(
      (zone) => (subnets?.find((subnet) => subnet.zone === zone)?.freeAddresses ?? machines) >= machines,
    );
    if (roomy.length === 0) problems.push(subnetProblem(rung, here, subnets ?? [], machines));
    choices.push(...roomy.map((zone) => ({ ...rung, zone })));
  }
  return { choices, problems };
}

function quotaProblem({ rung, quota, limitVcpus, usedVcpus, neededVcpus }: QuotaShortage): Problem {
  return {
    setting: "quota",
    what: `the account may run ${limitVcpus} vCPUs of "${quota.name}", ${usedVcpus} run already, and this needs ${neededVcpus}`,
    value: describeRung(rung),
    allowed: `${Math.max(0, limitVcpus - usedVcpus)} vCPUs more`,
    fix: `ask for ${usedVcpus + neededVcpus} at Service Quotas (ec2, ${quota.code}), or choose a smaller type`,
  };
}

function notOffered(rung: Rung, zones: readonly string[]): Problem {
  return {
    setting: rung.zone === undefined ? "ec2.region" : "ec2.zones",
    what: rung.zone === undefined ? "no zone of the region offers this type" : "the zone does not offer this type",
    value: describeRung(rung),
    ...(zones.length > 0 && { allowed: zones.toSorted().join(", ") }),
    fix: zones.length > 0 ? "name one of these zones, or leave `ec2.zones` out" : "choose another type or region",
  };
}

function subnetProblem(rung: Rung, offered: readonly string[], subnets: readonly Subnet[], machines: number): Problem {
  const full = subnets.filter(({ zone }) => offered.includes(zone));
  const places = subnets.map(({ id, zone, freeAddresses }) => `${id} in ${zone} with ${freeAddresses} free addresses`);
  return {
    setting: "ec2.subnetIds",
    what:
      full.length === 0
        ? `none of the subnets is in a zone that offers it (${offered.join(", ")})`
        : `no subnet in a zone that offers it has ${machines === 1 ? "an address" : `${machines} addresses`} free: ${places.join("; ")}`,
    value: describeRung(rung),
    fix: "give other subnets, or leave `ec2.subnetIds` out for a VPC of the stack's own",
  };
}
