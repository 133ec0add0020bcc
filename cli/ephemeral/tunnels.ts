import type { HostTarget } from "../../bootstrap/runner/request";
import { trainingPort } from "../../plan/training-port";
import { isExposed } from "../../plan/exposure";
import { loadSettings } from "../../stacks/config";
import { environmentTargets } from "../environment-hosts";
import { findEnvironment } from "../environments";
import { SettingsFile } from "../settings-file";
import type { Outputs } from "../../stacks/outputs";
import type { EphemeralRun } from "./run";
import type { Tunnel } from "../../bootstrap/runner/tunnel";

/**
 * Opens what `endpoints.connect` would: for each host behind OpenSSH whose API listens on its loopback address only, or to a cluster that
 * nothing leads to from outside.
 */
export async function openTunnels(
  run: EphemeralRun,
  { endpoints: { connect } }: Pick<Outputs, "endpoints">,
  say: (line: string) => void,
): Promise<Tunnel[]> {
  const environment = findEnvironment(run.settings);
  const settings = loadSettings(SettingsFile.read(environment.source.path).config());
  const targets = environmentTargets(environment);
  if (settings.target === "local" || isExposed(settings)) return [];
  const { allOpen, openForward, openTunnel } = await import("../../bootstrap/runner/tunnel.js");
  if (settings.target === "kubernetes") return connect === undefined ? [] : [await openForward(connect, settings.port)];
  // With a gateway everything is behind one port.
  const hasTrainer = !settings.gateway.enabled && settings.training.backend !== "off";
  const remote = hasTrainer ? [settings.port, trainingPort(settings)] : [settings.port];
  const toHost = (target: HostTarget, index: number) => {
    if (target.kind !== "ssh") return [];
    const ports = remote.map((port) => ({ remote: port, local: port + index * remote.length }));
    return [openTunnel(target, ports, say)];
  };
  return allOpen(targets.flatMap(toHost));
}
