import { COMMAND_VERSION, findCommandPlugin, type CommandPlugin } from "./command-plugin";
import { findPulumiCli, type PulumiCli } from "./pulumi-cli";

/** A Pulumi engine that is ready to use, with the plugin of `@pulumi/command`. */
export interface Engine {
  /** For the Automation API: `PulumiCommand.get({ root, skipVersionCheck: true })`. Holds `bin/pulumi`. */
  readonly root: string;
  /** The executable, for whoever starts it directly. */
  readonly path: string;
  readonly version: string;
  readonly source: PulumiCli["source"];
  readonly pluginSource: CommandPlugin["source"];
  /** Belongs into the environment of every Pulumi process: `envVars` of the Automation API. */
  readonly env: Readonly<Record<string, string>>;
  /** One line for people: which engine and which plugin are in use. */
  readonly summary: string;
}

/**
 * Finds, downloads or builds the Pulumi engine and its command plugin; see `pulumi-cli.ts` and `command-plugin.ts` for the
 * order. Once they are there it takes a few milliseconds and starts no process. Two runs at once prepare it once.
 * @param log gets one line for each thing that takes time
 * @throws EngineError with one line that says what to install
 */
export async function ensureEngine({ log }: { log: (line: string) => void }): Promise<Engine> {
  const cli = await findPulumiCli(log);
  const plugin = await findCommandPlugin(cli, log);
  return {
    ...cli,
    pluginSource: plugin.source,
    env: { PULUMI_SKIP_UPDATE_CHECK: "true", ...plugin.env },
    summary: `Pulumi ${cli.version} (${describeCli(cli)}), command ${COMMAND_VERSION} (${describePlugin(plugin)})`,
  };
}

function describeCli({ source, path }: PulumiCli): string {
  switch (source) {
    case "path":
      return path;
    case "download":
      return "Pulumi's download";
    case "built":
      return "built from Go modules";
  }
}

function describePlugin({ source }: CommandPlugin): string {
  switch (source) {
    case "installed":
    case "download":
      return "Pulumi's plugin";
    case "offline":
      return "Tandem's offline plugin";
  }
}
