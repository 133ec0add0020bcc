import type { Settings } from "./settings";

/** Port that vLLM itself listens on, on loopback: the API's where no gateway is in front, else the second one after it, the trainer's being the first. */
export function servingPort({ port, gateway }: Pick<Settings, "port" | "gateway">): number {
  if (!gateway.enabled) return port;
  return gateway.servingPort ?? (port + 2 <= 65_535 ? port + 2 : port - 2);
}
