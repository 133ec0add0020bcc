import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { LocalWorkspace, PulumiCommand, type PulumiFn, type Stack } from "@pulumi/pulumi/automation/index.js";
import { offlinePluginEnvironment } from "../../bootstrap/engine/command-plugin";
import { findPulumiCli } from "../../bootstrap/engine/pulumi-cli";

/** The real engine with our plugin, whatever else is installed, and a backend in a folder of its own. */
export interface Workbench {
  readonly folder: string;
  readonly pulumiPath: string;
  readonly environment: Readonly<Record<string, string>>;
  /** A new stack; it goes with the workbench. */
  stack(name: string, program: PulumiFn, projectName?: string): Promise<Stack>;
  close(): void;
}

export async function openWorkbench(): Promise<Workbench> {
  const cli = await findPulumiCli((line) => console.log(line));
  const folder = mkdtempSync(path.join(tmpdir(), "tandem-engine-"));
  const environment = {
    ...offlinePluginEnvironment(),
    PULUMI_SKIP_UPDATE_CHECK: "true",
    PULUMI_BACKEND_URL: `file://${folder}`,
    PULUMI_CONFIG_PASSPHRASE: "test",
  };
  const pulumiCommand = await PulumiCommand.get({ root: cli.root, skipVersionCheck: true });
  return {
    folder,
    pulumiPath: cli.path,
    environment,
    stack: (stackName, program, projectName = "replay") =>
      LocalWorkspace.createStack({ stackName, projectName, program }, { pulumiCommand, envVars: environment }),
    close: () => rmSync(folder, { recursive: true, force: true }),
  };
}
