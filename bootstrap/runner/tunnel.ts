import { spawn, type ChildProcess } from "node:child_process";
import { connect as connectTo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { SshTarget } from "./request";
import { sshArguments, sshEnvironment } from "./ssh-config";
import { connect } from "./ssh-connection";

const OPEN_SECONDS = 20;

/** Ports of this machine that lead to ports of a host, until `close`. */
export interface Tunnel {
  readonly processId: number;
  close(): Promise<void>;
}

/**
 * Leads local ports to the same or other ports of a host's loopback address, by an OpenSSH of its own with the host's key verified as ever.
 * @throws Error when a port is taken here or the host can't be reached
 */
export async function openTunnel(
  target: SshTarget,
  ports: readonly { readonly local: number; readonly remote: number }[],
  say: (line: string) => void,
): Promise<Tunnel> {
  // The shared connection writes the configuration and has said what it trusts; it ends when nobody calls, this one must not.
  const { files } = await connect(target, say);
  const shared = sshArguments(target, { ...files, socket: "none" });
  const own = shared.filter((part, index) => ![part, shared[index + 1]].includes("ClearAllForwardings=yes"));
  const forwards = ports.flatMap(({ local, remote }) => ["-L", `127.0.0.1:${local}:127.0.0.1:${remote}`]);
  const what = `no tunnel to ${target.name}`;
  const locals = ports.map(({ local }) => local);
  await requireFree(locals, what);
  const child = spawn("ssh", [...own, "-N", "-o", "ExitOnForwardFailure=yes", ...forwards, "--", target.host], {
    env: sshEnvironment(),
    stdio: ["ignore", "ignore", "pipe"],
  });
  return untilOpen(child, locals, what);
}

/**
 * Runs the command that `endpoints.connect` of a cluster names, `kubectl port-forward`, until `close`.
 * @throws Error when the local port does not open
 */
export async function openForward(command: string, port: number): Promise<Tunnel> {
  const what = "no way to the cluster";
  await requireFree([port], what);
  const child = spawn("sh", ["-c", `exec ${command}`], { stdio: ["ignore", "ignore", "pipe"] });
  return untilOpen(child, [port], what);
}

/**
 * All of them, or none stays open.
 * @throws Error the first that kept one from opening
 */
export async function allOpen(opening: readonly Promise<Tunnel>[]): Promise<Tunnel[]> {
  const tunnels: Tunnel[] = [];
  const ends = await Promise.allSettled(opening.map(async (tunnel) => tunnels.push(await tunnel)));
  const failed = ends.find(({ status }) => status === "rejected");
  if (failed === undefined) return Promise.all(opening);
  await Promise.all(tunnels.map((tunnel) => tunnel.close()));
  throw (failed as PromiseRejectedResult).reason;
}

/** What listens there before the child does would be taken for it, and be told the API key. */
async function requireFree(ports: readonly number[], what: string): Promise<void> {
  for (const port of ports) {
    if (!(await listens(port))) continue;
    throw new Error(
      `${what}: another program listens on port ${port} of this machine — fix: end it (ss -ltnp), or name another with --port`,
    );
  }
}

/** Waits until the child listens on the local ports. @throws Error with the child's own words when it does not */
async function untilOpen(child: ChildProcess, ports: readonly number[], what: string): Promise<Tunnel> {
  let words = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (words = (words + text).slice(-2000)));
  const deadline = Date.now() + OPEN_SECONDS * 1000;
  while (!(await allListen(ports))) {
    if (hasEnded(child) || Date.now() > deadline) {
      await end(child);
      throw new Error(`${what}: ${words.trim() || `nothing within ${OPEN_SECONDS} s`}`);
    }
    await sleep(100);
  }
  return { processId: child.pid ?? 0, close: () => end(child) };
}

async function end(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return;
  const ended = new Promise((resolve) => child.once("close", resolve));
  child.kill();
  await ended;
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

async function allListen(ports: readonly number[]): Promise<boolean> {
  return (await Promise.all(ports.map(listens))).every(Boolean);
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectTo(port, "127.0.0.1");
    const settle = (answer: boolean) => () => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("connect", settle(true)).once("error", settle(false));
  });
}
