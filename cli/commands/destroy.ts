import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { forgetSshKey } from "../../bootstrap/cloud/ssh-key";
import { ABANDON_VARIABLE, KEEP_CACHE_VARIABLE, SWEPT_VARIABLE, sweepHost } from "../../bootstrap/runner/host";
import { readChecks } from "../../bootstrap/runner/read-host";
import type { HostTarget } from "../../bootstrap/runner/request";
import { targetName } from "../../bootstrap/runner/targets";
import { forgetStack, stackExists } from "../backend";
import { sweepCluster } from "../cluster";
import { sweepCloudOf } from "../cloud-sweep";
import { confirm, type Console } from "../console";
import { chooseTarget, environmentTargets, forgetHosts, isRented, keepsCache } from "../environment-hosts";
import { CommandError, messageOf } from "../exit";
import { forgetPlans } from "../last-plan";
import { runOperation } from "../operation";
import { success, type Report } from "../report";
import { openForChange, removeStack, withSession, type Session } from "../session";
import { SettingsFile } from "../settings-file";
import type { CommonOptions } from "./options";

export interface DestroyOptions extends CommonOptions {
  readonly yes: boolean;
  readonly forget: boolean;
  readonly keepCache: boolean;
  readonly abandon?: string;
  readonly backend?: string;
}

/**
 * `tandem destroy`: takes everything away again. The state knows what `up` finished; the host knows what a killed `up` began,
 * so both are asked.
 */
export async function destroy(options: DestroyOptions, console: Console): Promise<Report> {
  return withSession("destroy", options, console, async (session) => {
    const { environment, interruption } = session;
    await interruption.guard(confirm(`Take away everything of environment ${environment.name}?`, console, options.yes));
    // The steps' runners and the sweep read it.
    if (options.keepCache) process.env[KEEP_CACHE_VARIABLE] = "1";
    const targets = targetsToClean(session, options.abandon);
    const keepsModels = options.keepCache || keepsCache(environment);
    const steps = await interruption.guard(
      Promise.all(targets.map((target) => readChecks(target, environment.name).catch(() => []))),
    );
    const hadStack = options.forget ? forget(session) : await destroyStack(session, targets);
    await sweepHosts(session, targets);
    await sweepCloudOf(session);
    // No machine is left that it opens; whoever takes the name again gets another one.
    forgetSshKey(environment.name);
    const hadNamespace = await interruption.guard(sweepCluster(environment, console.say));
    forgetPlans(environment);
    forgetHosts(environment);
    const didSomething = hadStack || hadNamespace || steps.some((found) => found.length > 0);
    return success(
      { destroyed: didSomething, kept: keptFolders(session) },
      describe(didSomething, session, targets, keepsModels),
    );
  });
}

/** Every host of the environment but the one that is given up, which the runner is told to leave alone. */
function targetsToClean({ environment, console }: Session, abandoned: string | undefined): HostTarget[] {
  // Rented machines end as a whole: nothing is taken back on them.
  const targets = environmentTargets(environment).filter((target) => !isRented(target));
  if (abandoned === undefined) return targets;
  const given = chooseTarget(targets, abandoned);
  process.env[ABANDON_VARIABLE] = targetName(given);
  console.say(`${targetName(given)} is given up: what this environment has there stays`);
  return targets.filter((target) => target !== given);
}

/**
 * Takes back what is left on every host, whatever the state says. One that fails does not stop the others.
 * @throws CommandError naming each that could not be cleaned
 */
async function sweepHosts(
  { environment, console, interruption }: Session,
  targets: readonly HostTarget[],
): Promise<void> {
  const isAlone = targets.length === 1;
  const results = await interruption.guard(
    Promise.allSettled(
      targets.map((target) => {
        const say = (line: string) => console.say(isAlone ? line : `${targetName(target)}: ${line}`);
        return sweepHost(target, environment.name, say);
      }),
    ),
  );
  const failures = results.flatMap((result) => (result.status === "rejected" ? [messageOf(result.reason)] : []));
  if (failures.length === 0) return;
  const unreached = targets.find((target, index) => target.kind === "ssh" && results[index]?.status === "rejected");
  const fix =
    unreached === undefined
      ? ""
      : ` — fix: run it again when the host answers; if it is gone for good, tandem destroy --abandon ${targetName(unreached)}`;
  throw new CommandError(`not everything could be taken away: ${failures.join("; ")}${fix}`);
}

/** For a passphrase that is lost: nothing that was encrypted with it is needed to go on. @returns whether there was a stack */
function forget({ backend, environment, console }: Session): boolean {
  if (existsSync(environment.file)) {
    const file = SettingsFile.read(environment.file);
    const gone = file.forgetSecrets();
    file.write();
    if (gone.length > 0) console.say(`encrypted settings are forgotten, set them again: ${gone.join(", ")}`);
  }
  return forgetStack(backend, environment.name);
}

/** Takes back what the state lists and removes the stack. @returns whether there was one */
async function destroyStack(session: Session, targets: readonly HostTarget[]): Promise<boolean> {
  const { environment, backend, console, interruption } = session;
  if (stackExists(backend, environment.name) === false) return false;
  // Destroying runs no program, but the SDK serves one in place of the language host, which can't be had everywhere.
  const opened = await openForChange(session, {
    command: "destroy",
    program: () => Promise.resolve({}),
    create: false,
  });
  if (opened === undefined) return false;
  try {
    await runOperation("destroy", { ...opened, interruption, console });
  } catch (error) {
    if (interruption.isRequested || !(error instanceof CommandError)) throw error;
    const place = targets.length === 1 ? "the host itself" : "the hosts themselves";
    console.say(`${error.message}\ntaking it back on ${place}, whatever the state says`);
    await sweepHosts(session, targets);
    process.env[SWEPT_VARIABLE] = targets.map(targetName).join(" ");
    await runOperation("destroy", { ...opened, interruption, console });
  }
  await removeStack(opened, environment.name);
  return true;
}

function describe(
  didSomething: boolean,
  session: Session,
  targets: readonly HostTarget[],
  keepsModels: boolean,
): string {
  const { environment } = session;
  const kept = keptFolders(session);
  const where = targets.map((target) => (target.kind === "local" ? "this machine" : target.name)).join(", ");
  const head = didSomething
    ? `environment ${environment.name} is gone: no process, unit or port of it is left on ${where}`
    : `nothing to destroy in environment ${environment.name}: no process, unit or port of it is on ${where}`;
  const keepsHere = keepsModels && targets.some(({ kind }) => kind === "local");
  return `${head}\n  kept: ${keepsHere ? `models and runtimes in ${kept.cache}, ` : ""}settings in ${kept.settings}`;
}

function keptFolders({ environment }: Session): { cache: string; settings: string } {
  const chosen = process.env["TANDEM_CACHE_DIR"] ?? process.env["XDG_CACHE_HOME"];
  const base = chosen !== undefined && isAbsolute(chosen) ? chosen : join(homedir(), ".cache");
  return {
    cache: process.env["TANDEM_CACHE_DIR"] === undefined ? join(base, "tandem") : base,
    settings: environment.folder,
  };
}
