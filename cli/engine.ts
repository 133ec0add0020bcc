import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { parse as parseVersion } from "semver";
import type {
  ConcurrentUpdateError,
  ConfigMap,
  LocalWorkspace,
  OutputMap,
  PulumiCommand,
  PulumiFn,
  Stack,
} from "@pulumi/pulumi/automation";
import { packageRoot } from "../bootstrap/runner/package-root";
import { writeWhole } from "../bootstrap/runner/write-whole";
import {
  CLIENT_VARIABLE,
  hasPendingOperations,
  projectFile,
  projectSettings,
  stackExists,
  WORKSPACE_VARIABLE,
  type Backend,
} from "./backend";
import { hasSecrets, type Environment } from "./environments";
import { CommandError, EXIT, messageOf } from "./exit";
import type { Home } from "./home";
import { isWrongPassphrase, openPassphrase, wrongPassphrase } from "./passphrase";
import { findProcesses, signalProcess, thisProcess, waitForEnd } from "./processes";

/** A Pulumi engine and the workspace of one environment, ready to run. */
export interface Engine {
  readonly workspace: LocalWorkspace;
  readonly environment: Environment;
  readonly backend: Backend;
  readonly passphraseSource: string;
  /** One line for people: which engine, which version. */
  readonly summary: string;
}

export interface EngineArgs {
  readonly home: Home;
  readonly environment: Environment;
  readonly backend: Backend;
  readonly say: (line: string) => void;
  /** Remember the backend for the next runs; only `up` does. */
  readonly keepBackend?: boolean;
}

/**
 * Gets the engine and opens the environment's workspace. Loads Pulumi's SDK, which takes half a second: only commands that
 * need it come here.
 * @throws CommandError when no engine can be had; says what to install
 */
export async function openEngine({ home, environment, backend, say, keepBackend }: EngineArgs): Promise<Engine> {
  const { ensureEngine } = await import("../bootstrap/engine/index.js");
  const engine = await ensureEngine({ log: say });
  const { LocalWorkspace, PulumiCommand } = await import("@pulumi/pulumi/automation/index.js");
  // PulumiCommand.get() would start the engine to ask for its version, which is known here.
  const pulumi = Object.assign(Object.create(PulumiCommand.prototype) as PulumiCommand, {
    command: engine.path,
    version: parseVersion(engine.version),
  });
  const passphrase = openPassphrase(home, hasSecrets(environment), say);
  const project = projectFile(environment);
  if (keepBackend === true || !existsSync(project)) {
    writeWhole(project, projectSettings(keepBackend === true ? backend : undefined));
  }
  const workspace = await LocalWorkspace.create({
    workDir: environment.folder,
    pulumiCommand: inOwnSession(pulumi),
    envVars: { ...engine.env, ...passphrase.variables, ...ownVariables(environment, backend) },
  });
  return { workspace, environment, backend, passphraseSource: passphrase.source, summary: engine.summary };
}

function ownVariables(environment: Environment, backend: Backend): Record<string, string> {
  return {
    PULUMI_BACKEND_URL: backend.url,
    PULUMI_SKIP_UPDATE_CHECK: "true",
    // The state remembers the runner of the version that created it, which may be gone by now.
    TANDEM_RUNNER: join(packageRoot(), "bin", "tandem-runner"),
    [CLIENT_VARIABLE]: clientMark(),
    [WORKSPACE_VARIABLE]: environment.folder,
    // Where the runner keeps what explains a failed step.
    TANDEM_CAPSULES: environment.logs,
  };
}

export function clientMark(): string {
  const { processId, startTicks } = thisProcess();
  return `${processId}/${startTicks}`;
}

/** How the SDK starts each Pulumi command. */
type RunPulumi = (argv: string[], folder: string, variables: Record<string, string>, ...rest: unknown[]) => unknown;

/**
 * The engine in a session of its own: Ctrl-C reaches every process of the terminal's group, and an engine that gets it from
 * the terminal and from us takes the second for "stop without writing the state".
 */
function inOwnSession(command: PulumiCommand): PulumiCommand {
  if (!isOnPath("setsid")) return command;
  const engine = command as PulumiCommand & { run: RunPulumi };
  const run = engine.run.bind(Object.assign(Object.create(engine) as PulumiCommand, { command: "setsid" }));
  const path = engine.command;
  engine.run = (argv, folder, variables, ...rest) => {
    // Plugins that come with an engine lie beside it; the SDK adds that folder only for a command with a path.
    const PATH = `${dirname(path)}:${variables["PATH"] ?? process.env["PATH"] ?? ""}`;
    return run([path, ...argv], folder, { ...variables, PATH }, ...rest);
  };
  return engine;
}

function isOnPath(program: string): boolean {
  return (process.env["PATH"] ?? "").split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Interrupts the engine's processes that outlasted their time, the hard way. */
export async function killEngine(): Promise<void> {
  const processIds = findProcesses("pulumi", CLIENT_VARIABLE, (client) => client === clientMark());
  for (const processId of processIds) signalProcess(processId, "SIGKILL");
  await waitForEnd(processIds, 5);
}

/** Selects the environment's stack, making it first where `create` says so; undefined when there is none. */
export async function openStack(
  engine: Engine,
  program: PulumiFn | undefined,
  create: boolean,
): Promise<Stack | undefined> {
  const { Stack, StackNotFoundError } = await import("@pulumi/pulumi/automation/index.js");
  const { workspace, environment } = engine;
  const exists = stackExists(engine.backend, environment.name);
  if (exists === false && !create) return undefined;
  // Every command names its stack, so that selecting one only asks whether it is there: a start of the engine less.
  if (exists === true) workspace.selectStack = () => Promise.resolve();
  try {
    const stack = await openIt();
    if (program !== undefined) await runInProcess(stack, program);
    return stack;
  } catch (error) {
    if (error instanceof StackNotFoundError) return undefined;
    throw explainEngineError(engine, error);
  }

  function openIt(): Promise<Stack> {
    if (exists === false) return Stack.create(environment.name, workspace);
    return create ? Stack.createOrSelect(environment.name, workspace) : Stack.select(environment.name, workspace);
  }
}

/** Has the stack run `program` here. Its outputs are kept as they pass: the SDK would start the engine twice to read them. */
async function runInProcess(stack: Stack, program: PulumiFn): Promise<void> {
  const pulumi = await import("@pulumi/pulumi");
  const readOutputs = stack.outputs.bind(stack);
  let seen: OutputMap | undefined;
  stack.outputs = () => (seen === undefined ? readOutputs() : Promise.resolve(seen));
  stack.workspace.program = async () => {
    const outputs = ((await program()) ?? {}) as Record<string, unknown>;
    pulumi.output(outputs).apply((values) => {
      // As they come back from the state: what is undefined is not there.
      const plain = JSON.parse(JSON.stringify(values)) as Record<string, unknown>;
      seen = Object.fromEntries(Object.entries(plain).map(([name, value]) => [name, { value, secret: false }]));
    });
    return outputs;
  };
}

/** The stack's whole configuration, decrypted. @throws CommandError for a wrong passphrase */
export async function readConfig(engine: Engine, stack: Stack): Promise<ConfigMap> {
  try {
    return await stack.getAllConfig();
  } catch (error) {
    throw explainEngineError(engine, error);
  }
}

/** What an error of the SDK means for the user; its own text is a dump of everything the engine printed. */
export function explainEngineError(engine: Engine, error: unknown): CommandError {
  if (error instanceof CommandError) return error;
  const text = messageOf(error);
  if (isWrongPassphrase(text)) return wrongPassphrase(engine.passphraseSource, engine.environment.file);
  if ((error as ConcurrentUpdateError).name === "ConcurrentUpdateError") {
    return new CommandError(
      `the state is locked: another Pulumi changes this stack now\n${errorLines(text)}`,
      EXIT.busy,
    );
  }
  return new CommandError(`the Pulumi engine failed — backend ${engine.backend.url}\n${errorLines(text)}`);
}

/** The lines that say something out of `code: … stdout: … stderr: …`. */
function errorLines(text: string): string {
  const stderr = /stderr: ([\s\S]*?)(?:\n err\?:|$)/.exec(text)?.[1] ?? text;
  const lines = stderr
    .split("\n")
    .filter((line) => line.trim() !== "" && !line.startsWith("Command failed with exit code"));
  return lines
    .slice(0, 12)
    .map((line) => `  ${line.trim()}`)
    .join("\n");
}

/** Drops the marks of work that a killed engine left in the state: what such work did is found on the host, not in them. */
export async function clearPendingOperations(engine: Engine, stack: Stack, say: (line: string) => void): Promise<void> {
  if (hasPendingOperations(engine.backend, engine.environment.name) === false) return;
  const exported = await stack.exportStack();
  const deployment = exported.deployment as {
    pending_operations?: { type: string; resource: { urn: string } }[];
  } | null;
  const pending = deployment?.pending_operations ?? [];
  if (deployment === null || pending.length === 0) return;
  await stack.importStack({ ...exported, deployment: { ...deployment, pending_operations: [] } });
  const names = pending.map(({ type, resource }) => `${type} ${resource.urn.split("::").at(-1) ?? resource.urn}`);
  say(`a killed run left unfinished in the state: ${names.join(", ")} — cleared; the host knows how far it came`);
}
