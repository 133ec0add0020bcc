import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { readChecks, sweepHost } from "../../bootstrap/runner/host";
import { forgetStack, stackExists } from "../backend";
import { confirm, type Console } from "../console";
import { CommandError } from "../exit";
import { forgetPlan } from "../last-plan";
import { runOperation } from "../operation";
import { success, type Report } from "../report";
import { openForChange, removeStack, withSession, type Session } from "../session";
import { SettingsFile } from "../settings-file";
import type { CommonOptions } from "./options";

export interface DestroyOptions extends CommonOptions {
  readonly yes: boolean;
  readonly forget: boolean;
  readonly backend?: string;
}

const HOST = { kind: "local" } as const;

/**
 * `tandem destroy`: takes everything away again. The state knows what `up` finished; the host knows what a killed `up` began,
 * so both are asked.
 */
export async function destroy(options: DestroyOptions, console: Console): Promise<Report> {
  return withSession("destroy", options, console, async (session) => {
    const { environment, interruption } = session;
    await interruption.guard(confirm(`Take away everything of environment ${environment.name}?`, console, options.yes));
    const steps = await interruption.guard(readChecks(HOST, environment.name));
    const hadStack = options.forget ? forget(session) : await destroyStack(session);
    await interruption.guard(sweepHost(HOST, environment.name, console.say));
    forgetPlan(environment);
    const didSomething = hadStack || steps.length > 0;
    return success({ destroyed: didSomething, kept: keptFolders(session) }, describe(didSomething, session));
  });
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
async function destroyStack(session: Session): Promise<boolean> {
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
    console.say(`${error.message}\ntaking it back on the host itself, whatever the state says`);
    await interruption.guard(sweepHost(HOST, environment.name, console.say));
    await runOperation("destroy", { ...opened, interruption, console });
  }
  await removeStack(opened, environment.name);
  return true;
}

function describe(didSomething: boolean, session: Session): string {
  const { environment } = session;
  const kept = keptFolders(session);
  const head = didSomething
    ? `environment ${environment.name} is gone: no process, unit or port of it is left on this machine`
    : `nothing to destroy in environment ${environment.name}: this machine has no process, unit or port of it`;
  return `${head}\n  kept: models and runtimes in ${kept.cache}, settings in ${kept.settings}`;
}

function keptFolders({ environment }: Session): { cache: string; settings: string } {
  const chosen = process.env["TANDEM_CACHE_DIR"] ?? process.env["XDG_CACHE_HOME"];
  const base = chosen !== undefined && isAbsolute(chosen) ? chosen : join(homedir(), ".cache");
  return {
    cache: process.env["TANDEM_CACHE_DIR"] === undefined ? join(base, "tandem") : base,
    settings: environment.folder,
  };
}
