import type { Prepared } from "./prepare";
import type { SshTarget } from "./request";

/** How clients reach the API of one host. */
export interface Reach {
  /** As clients on this machine write it, without `/v1`. */
  readonly server: string;
  /** The command that opens the tunnel behind `server`; absent when none is needed. */
  readonly connect?: string;
}

/**
 * How the API of the host at `index` is reached from this machine: directly, or by a tunnel on a local port of its own, the
 * setting `port` for the first host, one more for each that follows.
 */
export function reachHost({ settings, hosts }: Prepared, index: number): Reach {
  const target = hosts[index]?.host.target;
  if (target === undefined || target.kind === "local") return { server: `http://127.0.0.1:${settings.port}` };
  const localPort = settings.port + index;
  return { server: `http://127.0.0.1:${localPort}`, connect: tunnelCommand(target, localPort, settings.port) };
}

/** OpenAI base URL of the host at `index`. */
export function baseUrlOf(prepared: Prepared, index: number): string {
  return `${reachHost(prepared, index).server}/v1`;
}

function tunnelCommand(target: SshTarget, localPort: number, port: number): string {
  const { user, host, port: sshPort, identityFile, jumpHost } = target;
  return [
    `ssh -N -L ${localPort}:127.0.0.1:${port}`,
    ...(sshPort === undefined ? [] : [`-p ${sshPort}`]),
    ...(identityFile === undefined ? [] : [`-i ${quote(identityFile)}`]),
    ...(jumpHost === undefined ? [] : [`-J ${quote(jumpHost)}`]),
    quote(user === undefined ? host : `${user}@${host}`),
  ].join(" ");
}

function quote(text: string): string {
  return /^[\w./:@~+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
