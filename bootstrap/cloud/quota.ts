import { paginateDescribeInstances, type Instance } from "@aws-sdk/client-ec2";
import { GetServiceQuotaCommand } from "@aws-sdk/client-service-quotas";
import { findInstanceType } from "../../plan/ec2-catalogue";
import type { Rung } from "../../plan/ec2-ladder";
import type { Market } from "../../plan/settings-ec2";
import type { Clients } from "./clients";
import { classifyCode, errorCode } from "./ladder-errors";

/** A limit of the account on vCPUs that run at once, which several families share. */
export interface Quota {
  readonly code: string;
  readonly name: string;
}

/** AWS's quotas for types with GPUs (Service Quotas, `ec2`, November 2026). That of P6 on spot has no code that is known here. */
export function quotaOf(instanceType: string, market: Market): Quota | undefined {
  if (instanceType.startsWith("g")) {
    return market === "spot"
      ? { code: "L-3819A6DF", name: "All G and VT Spot Instance Requests" }
      : { code: "L-DB2E81BA", name: "Running On-Demand G and VT instances" };
  }
  if (!instanceType.startsWith("p")) return undefined;
  if (market === "on-demand") return { code: "L-417A185B", name: "Running On-Demand P instances" };
  if (instanceType.startsWith("p5")) return { code: "L-C4BD4855", name: "All P5 Spot Instance Requests" };
  return /^p[234]/.test(instanceType)
    ? { code: "L-7212CCBC", name: "All P4, P3 and P2 Spot Instance Requests" }
    : undefined;
}

/** A choice that the account may not have, and why. */
export interface QuotaShortage {
  readonly rung: Rung;
  readonly quota: Quota;
  readonly limitVcpus: number;
  readonly usedVcpus: number;
  readonly neededVcpus: number;
}

/**
 * The choices for which the account's quota of vCPUs does not suffice. A quota that can't be read stops nothing: EC2 has the last word.
 * @param machines how many of each are wanted at once
 */
export async function quotaShortages(
  clients: Clients,
  rungs: readonly Rung[],
  machines: number,
): Promise<QuotaShortage[]> {
  const codes = new Set(rungs.flatMap(({ instanceType, market }) => quotaOf(instanceType, market)?.code ?? []));
  const limits = new Map(
    await Promise.all([...codes].map(async (code) => [code, await readLimit(clients, code)] as const)),
  );
  const used = await usedVcpus(clients);
  return rungs.flatMap((rung): QuotaShortage[] => {
    const quota = quotaOf(rung.instanceType, rung.market);
    const limitVcpus = limits.get(quota?.code ?? "");
    if (quota === undefined || limitVcpus === undefined) return [];
    const neededVcpus = machines * (findInstanceType(rung.instanceType)?.vcpus ?? 0);
    const inUse = used.get(quota.code) ?? 0;
    if (inUse + neededVcpus <= limitVcpus) return [];
    return [{ rung, quota, limitVcpus, usedVcpus: inUse, neededVcpus }];
  });
}

async function readLimit({ quotas }: Clients, code: string): Promise<number | undefined> {
  try {
    const { Quota } = await quotas.send(new GetServiceQuotaCommand({ ServiceCode: "ec2", QuotaCode: code }));
    return Quota?.Value;
  } catch (error) {
    if (classifyCode(errorCode(error)) === "credentials" || errorCode(error) === "NoSuchResourceException")
      return undefined;
    throw error;
  }
}

/** vCPUs of the account's machines with GPUs that run now, by the code of the quota that they count against. */
async function usedVcpus({ ec2 }: Clients): Promise<Map<string, number>> {
  const input = { Filters: [{ Name: "instance-state-name", Values: ["pending", "running"] }] };
  const used = new Map<string, number>();
  for await (const { Reservations = [] } of paginateDescribeInstances({ client: ec2 }, input)) {
    for (const instance of Reservations.flatMap(({ Instances = [] }) => Instances)) {
      const quota = quotaOf(instance.InstanceType ?? "", instance.InstanceLifecycle === "spot" ? "spot" : "on-demand");
      if (quota !== undefined) used.set(quota.code, (used.get(quota.code) ?? 0) + vcpusOf(instance));
    }
  }
  return used;
}

function vcpusOf({ CpuOptions, InstanceType }: Instance): number {
  const counted = (CpuOptions?.CoreCount ?? 0) * (CpuOptions?.ThreadsPerCore ?? 0);
  return counted > 0 ? counted : (findInstanceType(InstanceType ?? "")?.vcpus ?? 0);
}
