import { describeTarget } from "./host";
import type { HostTarget } from "./request";
import { callTarget } from "./transport";

/**
 * Moves the end of a stack on a host, or of a rented machine, to `ttlSeconds` from its own now; never brings it nearer.
 * @returns the end as the host has it, RFC 3339; undefined where no timer is armed
 * @throws Error when it is over already, or the host can't be reached
 */
export async function extendOnHost(
  target: HostTarget,
  stack: string,
  ttlSeconds: number,
  onLine: (line: string) => void,
): Promise<string | undefined> {
  const answer = await callTarget(target, {
    script: "expiry-extend.sh",
    argv: [],
    environment: { TANDEM_STACK: stack, TANDEM_TTL_SECONDS: String(ttlSeconds) },
    onLine,
    timeoutSeconds: 30,
  });
  if (answer.code !== 0) {
    const reason = answer.stderr.trim().split("\n").at(-1) ?? `exit ${answer.code}`;
    throw new Error(`${describeTarget(target)}: ${reason}`);
  }
  return answer.stdout.trim().split("\n").filter(Boolean).toSorted()[0];
}
