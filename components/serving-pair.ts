import * as pulumi from "@pulumi/pulumi";
import type { Prepared } from "../bootstrap/runner/prepare";
import type { ProofResult } from "../bootstrap/runner/proof";
import { baseUrlOf } from "../bootstrap/runner/reach";
import { ApiKey } from "./host-step";
import { ServingHost } from "./serving-host";

export type ServingPairArgs = Prepared;

/**
 * vLLM serving a model on each of the hosts, proven by a generated token.
 * Takes what `prepare()` returns, so a plan that does not fit never gets here.
 */
export class ServingPair extends pulumi.ComponentResource {
  /** OpenAI base URL of the first host, `http://host:port/v1`; behind a tunnel where the host is not this machine. */
  readonly baseUrl: pulumi.Output<string>;
  /** Secret; the same on every host. */
  readonly apiKey: pulumi.Output<string>;
  /** Name that clients call the model by. */
  readonly servedModelName: string;
  /** What was measured after the start, compared with the plan; one for each host, in the order of the settings. */
  readonly proven: pulumi.Output<ProofResult[]>;
  /** When the stack took its first host, ISO 8601. */
  readonly startedAt: pulumi.Output<string>;

  constructor(name: string, args: ServingPairArgs, opts: pulumi.ComponentResourceOptions = {}) {
    super("tandem:index:ServingPair", name, {}, opts);
    const { settings } = args;
    const key = new ApiKey(`${name}-key`, { parent: this });
    const hosts = args.hosts.map(
      ({ host, plan }) =>
        new ServingHost(
          // This machine's steps go by the stack's name alone; a host of many by its own, so that one more changes no other.
          host.target.kind === "local" ? name : `${name}-${host.name}`,
          { host, plan, settings, key },
          { parent: this },
        ),
    );
    this.servedModelName = hosts[0]?.servedModelName ?? settings.model;
    this.apiKey = key.value;
    this.proven = pulumi.all(hosts.map(({ proven }) => proven));
    this.startedAt = pulumi.all(hosts.map(({ startedAt }) => startedAt)).apply((times) => times.toSorted()[0] ?? "");
    this.baseUrl = this.proven.apply(() => baseUrlOf(args, 0));
    this.registerOutputs({ baseUrl: this.baseUrl, apiKey: this.apiKey });
  }
}
