import { exposedRanges, isExposed, tlsMode } from "./exposure";
import { gatewayConfiguration, type Gateway } from "./gateway";
import type { Plan } from "./plan";
import type { Settings } from "./settings";

/** The gateway that belongs to a plan; undefined where none is wanted. */
export function gatewayOf(settings: Settings, plan: Plan): Gateway | undefined {
  const { gateway } = settings;
  if (!gateway.enabled) return undefined;
  return {
    address: isExposed(settings) ? "0.0.0.0" : "127.0.0.1",
    port: plan.port,
    tls: tlsMode(settings) !== "off",
    allowedCidrs: allowedRanges(settings),
    serving: [`127.0.0.1:${plan.servingPort}`],
    ...(plan.training.backend !== "off" && { training: `127.0.0.1:${plan.training.port}` }),
    limits: gateway.limits,
  };
}

/** As nginx has it, where none means everybody. */
function allowedRanges(settings: Settings): readonly string[] {
  return settings.gateway.allowedCidrs.includes("anywhere") ? [] : exposedRanges(settings);
}

/** What the gateway's step gets, `bootstrap/host/gateway.sh`. */
export interface GatewayDocument {
  readonly configuration: string;
  readonly address: string;
  readonly port: number;
  readonly tls: ReturnType<typeof tlsMode>;
  readonly certificate?: string;
  readonly certificateKey?: string;
  readonly domain?: string;
  readonly email?: string;
  readonly acmeDirectory?: string;
  readonly acmeDirectoryCa?: string;
  /** Name or address that a certificate of our own is for. */
  readonly name: string;
  /** Whether nginx may be installed as a package, or only unpacked: a user's own machine is left as it is. */
  readonly nginx: "package" | "unpack";
  readonly stopSeconds: number;
  /** What the monitor beside nginx asks and shows. */
  readonly monitor: GatewayMonitor;
}

export interface GatewayMonitor {
  readonly serving: readonly string[];
  readonly training?: string;
  readonly plan: Pick<Plan, "model" | "device" | "tensorParallel" | "replicas" | "split" | "perGpu" | "cost">;
  /** ISO 8601. */
  readonly startedAt?: string;
}

const STOP_SECONDS = 10;

/** The step's document; undefined where no gateway is wanted. `address` is what clients reach the host by. */
export function gatewayDocument(
  settings: Settings,
  plan: Plan,
  { address, startedAt }: { readonly address: string; readonly startedAt?: string },
): GatewayDocument | undefined {
  const gateway = gatewayOf(settings, plan);
  if (gateway === undefined) return undefined;
  const { tls } = settings.gateway;
  const { model, device, tensorParallel, replicas, split, perGpu, cost } = plan;
  return {
    configuration: gatewayConfiguration(gateway),
    address: gateway.address,
    port: gateway.port,
    tls: tlsMode(settings),
    certificate: tls.certificate,
    certificateKey: tls.key,
    domain: tls.domain,
    email: tls.email,
    acmeDirectory: tls.directory,
    acmeDirectoryCa: tls.directoryCa,
    name: tls.domain ?? address,
    nginx: settings.target === "local" ? "unpack" : "package",
    stopSeconds: STOP_SECONDS,
    monitor: {
      serving: gateway.serving,
      training: gateway.training,
      plan: { model, device, tensorParallel, replicas, split, perGpu, cost },
      startedAt,
    },
  };
}
