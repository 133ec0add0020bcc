import * as pulumi from "@pulumi/pulumi";
import type { Prepared, PreparedHost } from "../bootstrap/runner/prepare";
import type { ProofResult } from "../bootstrap/runner/proof";
import { baseUrlOf } from "../bootstrap/runner/reach";
import { type ApiKeys, makeApiKeys } from "./api-keys";
import { ServingHost } from "./serving-host";

/** Machines that are rented for the stack, with their launch. */
export interface RentedMachines {
  /** The hosts as they are once they run; unknown in a preview that will launch. */
  readonly hosts: pulumi.Output<readonly PreparedHost[]>;
  readonly launch: pulumi.Resource;
}

export interface ServingPairArgs extends Prepared {
  /** Needed where `prepared.cloud` is there. */
  readonly machines?: RentedMachines;
}

/** What serves once every host is proven. */
interface Served {
  readonly hosts: readonly PreparedHost[];
  readonly proven: ProofResult[];
  readonly startedAt: string;
}

/**
 * vLLM serving a model on each of the hosts, proven by a generated token.
 * Takes what `prepare()` returns, so a plan that does not fit never gets here.
 */
export class ServingPair extends pulumi.ComponentResource {
  /** OpenAI base URL of the first host, `http://host:port/v1`; behind a tunnel where the host is not this machine. */
  readonly baseUrl: pulumi.Output<string>;
  /** Secret; the same on every host. */
  readonly apiKey: pulumi.Output<string>;
  /** Secret; every key by its name. */
  readonly apiKeys: pulumi.Output<Record<string, string>>;
  /** Name that clients call the model by. */
  readonly servedModelName: string;
  /** What was measured after the start, compared with the plan; one for each host, in the order of the settings. */
  readonly proven: pulumi.Output<ProofResult[]>;
  /** When the stack took its first host, ISO 8601. */
  readonly startedAt: pulumi.Output<string>;
  /** The hosts that serve, in the order of the settings: machines that this run launched are known only now. */
  readonly hosts: pulumi.Output<readonly PreparedHost[]>;

  constructor(name: string, args: ServingPairArgs, opts: pulumi.ComponentResourceOptions = {}) {
    super("tandem:index:ServingPair", name, {}, opts);
    const { settings, machines } = args;
    const keys = makeApiKeys(name, settings, { parent: this });
    // A preview shows the steps on machines that there are not yet as they are planned; a run makes them on what was launched.
    const isKnown =
      machines === undefined || pulumi.runtime.isDryRun() || !args.hosts.some(({ host }) => host.isPlanned);
    const served = isKnown
      ? this.serve(name, args, args.hosts, keys)
      : machines.hosts.apply((hosts) => this.serve(name, args, hosts, keys));
    this.servedModelName = args.hosts[0]?.plan.model ?? settings.model;
    this.apiKey = keys.value;
    this.apiKeys = pulumi.all(Object.fromEntries(Object.entries(keys.named).map(([who, { value }]) => [who, value])));
    this.proven = served.apply(({ proven }) => proven);
    this.startedAt = served.apply(({ startedAt }) => startedAt);
    this.hosts = served.apply(({ hosts }) => hosts);
    this.baseUrl = this.hosts.apply((hosts) => baseUrlOf({ settings, hosts }, 0));
    this.registerOutputs({ baseUrl: this.baseUrl, apiKey: this.apiKey });
  }

  private serve(
    name: string,
    { settings, machines }: ServingPairArgs,
    hosts: readonly PreparedHost[],
    keys: ApiKeys,
  ): pulumi.Output<Served> {
    const serving = hosts.map(
      ({ host, plan }) =>
        new ServingHost(
          // This machine's steps go by the stack's name alone; a host of many by its own, so that one more changes no other.
          host.target.kind === "local" ? name : `${name}-${host.name}`,
          { host, plan, settings, keys, launch: machines?.launch },
          { parent: this },
        ),
    );
    const proven = pulumi.all(serving.map((host) => host.proven));
    const times = pulumi.all(serving.map((host) => host.startedAt));
    return pulumi
      .all([proven, times])
      .apply(([proven, times]): Served => ({ hosts, proven, startedAt: times.toSorted()[0] ?? "" }));
  }
}
