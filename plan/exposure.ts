import type { Settings } from "./settings";

export type Exposure = NonNullable<Settings["exposure"]>;
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

/** Where the certificate comes from. */
export function tlsMode(settings: Pick<Settings, "exposure" | "target" | "gateway">): TlsMode {
  return settings.gateway.tls.mode ?? (exposureOf(settings) === "private" ? "self-signed" : "off");
}
