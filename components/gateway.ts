import * as pulumi from "@pulumi/pulumi";
import type { PreparedHost } from "../bootstrap/runner/prepare";
import type { GatewayDocument } from "../plan/gateway-plan";
import { gatewayDocument } from "../plan/gateway-plan";
import type { Settings } from "../plan/settings";
import type { ApiKeys } from "./api-keys";
import { HostStep } from "./host-step";

export interface GatewayResult {
  readonly unitId: string;
  readonly port: number;
  readonly nginxVersion: string;
  /** SHA-256 of the certificate; absent without TLS. */
  readonly fingerprint?: string;
}

export interface GatewayArgs extends PreparedHost {
  readonly settings: Settings;
  readonly keys: ApiKeys;
  /** When the stack took the host, ISO 8601; shown on the status page. */
  readonly startedAt: pulumi.Input<string>;
}

/** Bringing nginx by the host's package manager, behind another one's lock; a certificate may have to be asked for. */
const TIMEOUT_SECONDS = 600;

/** The one way into a host: nginx in front of vLLM and the trainer, closed by default. */
export class Gateway extends HostStep<GatewayResult> {
  /** @param name the step is called `<name>-gateway` */
  constructor(
    name: string,
    { host, plan, settings, keys, startedAt }: GatewayArgs,
    opts: pulumi.CustomResourceOptions = {},
  ) {
    const address = host.target.kind === "local" ? "127.0.0.1" : host.target.host;
    const document = pulumi
      .output(startedAt)
      .apply((startedAt): GatewayDocument | undefined => gatewayDocument(settings, plan, { address, startedAt }));
    const named = pulumi.all(Object.fromEntries(Object.entries(keys.named).map(([who, { value }]) => [who, value])));
    const secrets = pulumi.all([named, keys.upstream]).apply(([named, upstreamKey]) => ({
      upstreamKey,
      ...Object.fromEntries(Object.entries(named).map(([who, key]) => [`key ${who}`, key])),
    }));
    super(`${name}-gateway`, { host, step: "gateway", document, secrets, timeoutSeconds: TIMEOUT_SECONDS }, opts);
  }
}
