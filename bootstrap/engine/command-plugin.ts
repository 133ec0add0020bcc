import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { engineCache, EngineError, packageFolder } from "./cache";
import type { PulumiCli } from "./pulumi-cli";
import { downloadsReachable, rememberUnreachable } from "./reach";

/** The version of `@pulumi/command` in package.json; the SDK asks the engine for exactly this plugin. */
export const COMMAND_VERSION = "1.2.1";
const PLUGIN = `resource-command-v${COMMAND_VERSION}`;
const HOME_PREFIX = "home-";
const INSTALL_LIMIT_MILLISECONDS = 300_000;

export interface CommandPlugin {
  readonly source: "installed" | "download" | "offline";
  /** What the engine needs in its environment to find it. */
  readonly env: Readonly<Record<string, string>>;
}

/**
 * The plugin of `@pulumi/command`: the installed one, else Pulumi's own download into the user's Pulumi home, else our
 * offline implementation of it, which lives in a Pulumi home of its own, so that no other project ever runs it.
 */
export async function findCommandPlugin(cli: PulumiCli, log: (line: string) => void): Promise<CommandPlugin> {
  if (existsSync(join(userPulumiHome(), "plugins", PLUGIN, "pulumi-resource-command")))
    return { source: "installed", env: {} };
  if ((await downloadsReachable()) && (await install(cli, log))) return { source: "download", env: {} };
  return { source: "offline", env: offlinePluginEnvironment() };
}

/**
 * Prepares a Pulumi home in the cache that has our offline plugin, and the user's other plugins by link.
 * The user's logins stay in use through PULUMI_CREDENTIALS_PATH.
 */
export function offlinePluginEnvironment(): Record<string, string> {
  const main = join(packageFolder(), "dist", "bundled", "command-plugin.js");
  if (!existsSync(main)) {
    throw new EngineError(
      `Tandem is not built yet — missing ${main} — fix: make build, or npm install && npm run build`,
    );
  }
  const script = `#!/bin/sh\nexec ${quote(join(packageFolder(), "bin", "node22"))} ${quote(main)} "$@"\n`;
  // Two copies of the package must not start each other's plugin.
  const home = join(engineCache(), `${HOME_PREFIX}${createHash("sha256").update(script).digest("hex").slice(0, 16)}`);
  const start = join(home, "plugins", PLUGIN, "pulumi-resource-command");
  if (!existsSync(start)) {
    mkdirSync(join(home, "plugins", PLUGIN), { recursive: true });
    const draft = join(home, `start.${process.pid}`);
    writeFileSync(draft, script);
    chmodSync(draft, 0o755);
    renameSync(draft, start);
  }
  linkOtherPlugins(join(home, "plugins"));
  return {
    PULUMI_HOME: home,
    PULUMI_CREDENTIALS_PATH: process.env["PULUMI_CREDENTIALS_PATH"] ?? userPulumiHome(),
    // Nothing can be downloaded here: the engine would only wait for it.
    PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
  };
}

function linkOtherPlugins(folder: string): void {
  const users = join(userPulumiHome(), "plugins");
  if (!existsSync(users)) return;
  for (const name of readdirSync(users)) {
    if (name.startsWith("resource-command-") || existsSync(join(folder, name))) continue;
    try {
      symlinkSync(join(users, name), join(folder, name));
    } catch (error) {
      // Another run made it a moment ago, or the plugin was removed and its link points nowhere.
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
}

async function install(cli: PulumiCli, log: (line: string) => void): Promise<boolean> {
  log(`downloading Pulumi's plugin command ${COMMAND_VERSION}, once`);
  try {
    await promisify(execFile)(
      cli.path,
      ["plugin", "install", "resource", "command", COMMAND_VERSION, "--non-interactive"],
      {
        timeout: INSTALL_LIMIT_MILLISECONDS,
        env: { ...process.env, PULUMI_SKIP_UPDATE_CHECK: "true" },
      },
    );
    return true;
  } catch {
    rememberUnreachable();
    log("Pulumi's plugin could not be downloaded");
    return false;
  }
}

function userPulumiHome(): string {
  const chosen = process.env["PULUMI_HOME"] ?? "";
  // Tandem started by a process that has Tandem's own environment: that home is not the user's.
  const isOurs = chosen.startsWith(join(engineCache(), HOME_PREFIX));
  return chosen !== "" && !isOurs ? chosen : join(homedir(), ".pulumi");
}

function quote(path: string): string {
  return `'${path.replaceAll("'", `'\\''`)}'`;
}
