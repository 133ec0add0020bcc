import type { Prepared, PreparedHost } from "../../bootstrap/runner/prepare";
import { undoStep } from "../../bootstrap/runner/step";
import { confirm, type Console } from "../console";
import { CommandError, EXIT } from "../exit";
import { rememberHosts } from "../environment-hosts";
import { keepPlans } from "../last-plan";
import { runOperation, type OperationResult } from "../operation";
import { plansOf, prepareHosts, renderPlans } from "../planning";
import { formatSeconds } from "../progress";
import { renderOutputs } from "../render-outputs";
import type { Report } from "../report";
import { decryptSettings, openForChange, withSession, type OpenedStack, type Session } from "../session";
import { resolveSettings, saveChanges, type RunSettings } from "../settings";
import { hideSecrets, readOutputs } from "../stack-outputs";
import type { ChangeOptions } from "./options";

export interface UpOptions extends ChangeOptions {
  readonly showSecrets: boolean;
}

/** `tandem up`: serves the model and proves that it answers. */
export async function up(options: UpOptions, console: Console): Promise<Report> {
  return withSession("up", options, console, async (session) => {
    const { environment, interruption } = session;
    const run = resolveSettings(environment, options, console.say, await decryptSettings(session));
    // A rented machine that this run launches is noted the moment it is known: a killed run must not hide it.
    const onHosts = (known: readonly PreparedHost[]) => noteHosts(session, known);
    const prepared = await interruption.guard(prepareHosts(run.settings, environment.name, { onHosts }));
    const { hosts } = prepared;
    console.say(renderPlans(plansOf(prepared), process.stderr));
    await interruption.guard(confirm(`Apply to environment ${environment.name}?`, console, options.yes));
    const opened = await openWithProgram(session, run, prepared);
    noteHosts(
      session,
      hosts.filter(({ host }) => host.isPlanned !== true),
    );
    const result = await runOperation("up", { ...opened, interruption, console });
    return reportUp(session, options, opened.log.path, result);
  });
}

/** Remembers hosts that the run works on, with their plans, and that an interruption ends a service there that never answered. */
function noteHosts(session: Session, hosts: readonly PreparedHost[]): void {
  if (hosts.length === 0) return;
  keepPlans(session.environment, Object.fromEntries(hosts.map(({ host, plan }) => [host.name, plan])));
  rememberHosts(
    session.environment,
    hosts.map(({ host }) => host.target),
  );
  for (const host of hosts.filter((candidate) => !wasServing(candidate))) {
    session.afterInterruption.push(() => endUnfinishedService(session, host));
  }
}

/** Whether the host had a proven service of this environment before this run. */
function wasServing({ host }: PreparedHost): boolean {
  if (host.unreachableBecause !== undefined) return true;
  return host.checks.some(({ step, holds }) => step === "proof" && holds);
}

/** A service that never answered is of no use to anybody, and nobody would know that it is there. */
async function endUnfinishedService({ environment, console }: Session, { host }: PreparedHost): Promise<void> {
  const request = { target: host.target, stack: environment.name, values: {}, timeoutSeconds: 60 } as const;
  await undoStep({ ...request, step: "serving" }, { onProgress: console.say });
}

/** Opens the stack, saves what the command line said, and hands the program what holds for this run only. */
async function openWithProgram(
  session: Session,
  { changes, fromVariables }: RunSettings,
  prepared: Prepared,
): Promise<OpenedStack> {
  const { environment, console } = session;
  const { default: program } = await import("../../stacks/index.js");
  const opened = await openForChange(session, {
    command: "up",
    program: () => program(fromVariables, prepared),
    create: true,
  });
  if (opened === undefined) throw new CommandError("the stack could not be opened");
  for (const line of saveChanges(environment, changes)) console.say(line);
  for (const { path, value } of changes.filter((change) => change.isSecret)) {
    await opened.stack.setConfig(`tandem:${path.join(".")}`, { value: String(value), secret: true }, path.length > 1);
    console.say(`saved for the next runs, encrypted: ${path.join(".")}`);
  }
  return opened;
}

function reportUp(session: Session, options: UpOptions, log: string, result: OperationResult): Report {
  const { changes, unchanged, seconds } = result;
  const outputs = readOutputs(result.outputs);
  if (outputs === undefined) throw new CommandError(`up ended without outputs — all of it: ${log}`);
  const shown = options.showSecrets ? outputs : hideSecrets(outputs);
  const isHealthy = outputs.health.status !== "failed";
  const summary = changes.length === 0 ? "nothing to change" : `${changes.length} changed, ${unchanged} unchanged`;
  return {
    status: isHealthy ? EXIT.ok : EXIT.unhealthy,
    document: { outputs: shown, changes, unchanged, seconds, log },
    text: `${renderOutputs(outputs, session.environment.name, process.stdout)}\n(${summary}, ${formatSeconds(seconds)})`,
  };
}
