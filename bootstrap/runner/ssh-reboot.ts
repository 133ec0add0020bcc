import { callTarget } from "./transport";
import { closeConnections, connect } from "./ssh-connection";
import { nameOf, SshError } from "./ssh-errors";
import { waitForHost } from "./ssh";
import type { SshTarget } from "./request";

/** For how long a host may take to restart, in seconds: big servers check their memory for minutes. */
const REBOOT_SECONDS = 600;

/**
 * Restarts a host and waits until it runs another boot and can be logged in to.
 * @throws SshError when it may not be restarted, does not come back, or comes back with the same boot
 */
export async function rebootHost(target: SshTarget, stack: string, say: (line: string) => void): Promise<void> {
  const name = nameOf(target);
  const { bootId } = (await connect(target, say)).record;
  const answer = await callTarget(target, {
    script: "work.sh",
    argv: ["reboot"],
    environment: { TANDEM_STACK: stack, TANDEM_BOOT_ID: bootId },
    timeoutSeconds: 60,
    onLine: say,
  });
  if (answer.code !== 0) {
    throw new SshError(
      `${name} can't be restarted — ${answer.stderr.trim().split("\n").at(-1) ?? ""}`,
      "refused-for-good",
    );
  }
  const limitSeconds = Number(process.env["TANDEM_REBOOT_SECONDS"] ?? REBOOT_SECONDS);
  say(`waiting for ${name} to restart, at most ${limitSeconds} s`);
  const startedAt = Date.now();
  await closeConnections([target]);
  await waitForBoot(target, bootId, limitSeconds, say);
  say(`${name} has restarted, after ${Math.round((Date.now() - startedAt) / 1000)} s`);
}

async function waitForBoot(
  target: SshTarget,
  before: string,
  limitSeconds: number,
  say: (line: string) => void,
): Promise<void> {
  let answers = false;
  const hasRestarted = async (bootId: string): Promise<boolean> => {
    if (bootId !== before) return true;
    answers = true;
    await closeConnections([target]);
    return false;
  };
  try {
    await waitForHost(target, limitSeconds, say, ({ record }) => hasRestarted(record.bootId));
  } catch (error) {
    if (!(error instanceof SshError) || error.kind !== "gone") throw error;
    const what =
      /has not restarted/.test(error.message) && answers ? "answers, but has not restarted" : "did not come back";
    throw new SshError(
      `${nameOf(target)} ${what} within ${limitSeconds} s after its restart was asked for — ${error.message} — ` +
        `fix: look at its console; when it is up, run it again (TANDEM_REBOOT_SECONDS sets the limit)`,
      "gone",
    );
  }
}
