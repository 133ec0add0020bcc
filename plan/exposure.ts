import type { Settings } from "./settings";

export type Exposure = NonNullable<Settings["exposure"]>;
/** Addresses that are not routed on the internet (RFC 1918, RFC 4193). */
const PRIVATE_RANGES = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
/** Everybody, as address ranges. */
const WORLD: readonly string[] = ["0.0.0.0/0", "::/0"];

/** What a security group calls the rule that lets others in to a gateway with TLS; the policy pack knows it by that. */
export const GATEWAY_WITH_TLS = "Gateway with TLS";

type TlsMode = NonNullable<Settings["gateway"]["tls"]["mode"]>;

/** How the API is reached: on the user's own machine directly, on others by a tunnel unless the setting says otherwise. */
export function exposureOf({ exposure, target }: Pick<Settings, "exposure" | "target">): Exposure {
  return exposure ?? (target === "local" ? "loopback" : "tunnel");
}

/** Whether others than the machine itself can connect. */
export function isExposed(settings: Pick<Settings, "exposure" | "target">): boolean {
  const exposure = exposureOf(settings);
  return exposure === "private" || exposure === "public";
}

/** The address ranges that may connect to the gateway: none where only the machine itself can. */
export function exposedRanges(settings: Pick<Settings, "exposure" | "target" | "gateway">): readonly string[] {
  const { allowedCidrs } = settings.gateway;
  if (!isExposed(settings)) return [];
  if (allowedCidrs.includes("anywhere")) return WORLD;
  return allowedCidrs.length === 0 && exposureOf(settings) === "private" ? PRIVATE_RANGES : allowedCidrs;
}

/** Where the certificate comes from. */
export function tlsMode(settings: Pick<Settings, "exposure" | "target" | "gateway">): TlsMode {
  return settings.gateway.tls.mode ?? (exposureOf(settings) === "private" ? "self-signed" : "off");
}
