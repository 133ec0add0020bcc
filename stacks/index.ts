import * as pulumi from "@pulumi/pulumi";
import { prepare, type Prepared } from "../bootstrap/runner/prepare";
import { ServingPair, type RentedMachines } from "../components/serving-pair";
import { ProblemsError } from "../plan/problem";
import { buildOutputs } from "./build-outputs";
import { loadSettings } from "./config";
import type { Outputs } from "./outputs";

/**
 * The program, behind both doors: plain `pulumi up`, and `tandem up`.
 * Configuration → observed hosts and a plan for each → host steps → outputs.
 * @param overrides raw settings of this run only, on top of the stack's configuration
 * @param observed what `tandem` has just prepared from the same settings, so that no host is asked twice
 */
async function program(
  overrides: Record<string, unknown> = {},
  observed?: Prepared,
): Promise<Record<string, pulumi.Output<unknown>>> {
  try {
    const prepared = observed ?? (await prepare(loadSettings(pulumi.runtime.allConfig(), overrides), stackIdOnHost()));
    for (const { host } of prepared.hosts) {
      if (host.unreachableBecause === undefined) continue;
      await pulumi.log.warn(`${host.name} is not checked: ${host.unreachableBecause}`);
    }
    if (prepared.cluster !== undefined) {
      const { clusterOutputs } = await import("./cluster.js");
      return stackOutputs(clusterOutputs({ settings: prepared.settings, cluster: prepared.cluster }));
    }
    const machines = await rentMachines(prepared);
    const pair = new ServingPair(pulumi.getStack(), { ...prepared, machines });
    return stackOutputs(
      pulumi
        .all([pair.hosts, pair.apiKey, pair.proven, pair.startedAt, pair.apiKeys])
        .apply(([hosts, apiKey, proven, startedAt, apiKeys]) => {
          const { servedModelName } = pair;
          const served = { ...prepared, hosts };
          return buildOutputs({ prepared: served, servedModelName, apiKey, apiKeys, proven, startedAt });
        }),
    );
  } catch (error) {
    // A mistake in the settings is the user's to mend: its text, without a stack trace.
    if (error instanceof ProblemsError) throw new pulumi.RunError(error.message);
    throw error;
  }
}

/** The machines of `target: ec2`. AWS's part of the SDK takes a while to load: nobody else pays for it. */
async function rentMachines(prepared: Prepared): Promise<RentedMachines | undefined> {
  const { cloud } = prepared;
  if (cloud === undefined) return undefined;
  const { Ec2Machines } = await import("../components/machines/ec2.js");
  return new Ec2Machines(pulumi.getStack(), { ...prepared, cloud });
}

/** One stack output a field; only the key stays secret, so that the rest can be read at a glance. */
function stackOutputs(outputs: pulumi.Output<Outputs>): Record<keyof Outputs, pulumi.Output<unknown>> {
  const open = pulumi.unsecret(outputs);
  return {
    version: open.version,
    endpoints: open.endpoints,
    apiKey: outputs.apiKey,
    apiKeys: outputs.apiKeys,
    health: open.health,
    plan: open.plan,
    measured: open.measured,
    hosts: open.hosts,
    cost: open.cost,
  };
}

/** Names of stacks may hold capitals, dots and underscores; folders and units on a host keep to letters, digits and dashes. */
function stackIdOnHost(): string {
  return pulumi
    .getStack()
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]/g, "-");
}

export = program;
