import { isExposed, tlsMode } from "../../plan/exposure";
import { trainingPort } from "../../plan/training-port";
import type { Prepared } from "./prepare";
import type { SshTarget } from "./request";

/** How clients reach the API of one host. */
export interface Reach {
  /** As clients on this machine write it, without `/v1`. */
  readonly server: string;
  /** OpenAI base URL of the training API, which passes all else on to the model; absent where nothing trains. */
  readonly fineTuning?: string;
  /** The page that shows what happens there; absent without a gateway. */
  readonly status?: string;
  /** The command that opens the tunnel behind the addresses; absent when none is needed. */
  readonly connect?: string;
}

/**
 * How the API of the host at `index` is reached from this machine: directly, or by a tunnel on local ports of its own, those of
 * the settings for the first host, one more for each that follows, beyond those of the hosts before it.
 */
export function reachHost(prepared: Prepared, index: number): Reach {
  return prepared.settings.gateway.enabled ? reachGateway(prepared, index) : reachServices(prepared, index);
}

/** One address for everything. */
function reachGateway({ settings, hosts }: Prepared, index: number): Reach {
  const { port, training, gateway } = settings;
  const target = hosts[index]?.host.target;
  const isHere = target === undefined || target.kind === "local";
  const scheme = tlsMode(settings) === "off" ? "http" : "https";
  const isDirect = !isHere && isExposed(settings);
  const localPort = isHere || isDirect ? port : port + index;
  const server = `${scheme}://${isDirect ? (gateway.tls.domain ?? target.host) : "127.0.0.1"}:${localPort}`;
  return {
    server,
    status: `${server}/status`,
    ...(training.backend !== "off" && { fineTuning: `${server}/v1` }),
    ...(!isHere && !isDirect && { connect: tunnelCommand(target, [{ port, localPort }]) }),
  };
}

function reachServices({ settings, hosts }: Prepared, index: number): Reach {
  const target = hosts[index]?.host.target;
  const remote = settings.training.backend === "off" ? [settings.port] : [settings.port, trainingPort(settings)];
  const isHere = target === undefined || target.kind === "local";
  const ports = remote.map((port) => ({ port, localPort: isHere ? port : port + index * remote.length }));
  const [server = "", training] = ports.map(({ localPort }) => `http://127.0.0.1:${localPort}`);
  return {
    server,
    ...(training !== undefined && { fineTuning: `${training}/v1` }),
    ...(!isHere && { connect: tunnelCommand(target, ports) }),
  };
}

/** OpenAI base URL of the host at `index`. */
export function baseUrlOf(prepared: Prepared, index: number): string {
  return `${reachHost(prepared, index).server}/v1`;
}

function tunnelCommand(
  target: SshTarget,
  ports: readonly { readonly port: number; readonly localPort: number }[],
): string {
  const { user, host, port: sshPort, identityFile, jumpHost, proxyCommand } = target;
  return [
    `ssh -N`,
    ...ports.map(({ port, localPort }) => `-L ${localPort}:127.0.0.1:${port}`),
    ...(sshPort === undefined ? [] : [`-p ${sshPort}`]),
    ...(identityFile === undefined ? [] : [`-i ${quote(identityFile)}`]),
    ...(jumpHost === undefined ? [] : [`-J ${quote(jumpHost)}`]),
    ...(proxyCommand === undefined ? [] : [`-o ${quote(`ProxyCommand=${proxyCommand}`)}`]),
    quote(user === undefined ? host : `${user}@${host}`),
  ].join(" ");
}

function quote(text: string): string {
  return /^[\w./:@~+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
