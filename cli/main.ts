/**
 * The `tandem` command. Each command's module is loaded when it is called, so that `tandem plan` never loads Pulumi.
 */
import { Command, CommanderError } from "commander";
import { ProblemsError } from "../plan/problem";
import { makeConsole, type Console } from "./console";
import { environmentTargets } from "./environment-hosts";
import { environmentName, findEnvironment } from "./environments";
import { CommandError, EXIT, messageOf, type ExitStatus } from "./exit";
import type { CommonOptions } from "./commands/options";
import { Interrupted } from "./interruption";
import { defineCommands, type RunCommand } from "./program";
import { toJson, type Report } from "./report";
import { serializeOnDemand } from "./serialize-on-demand";

/** Errors whose message was written for the user. */
const SPOKEN_ERRORS = new Set(["EngineError", "StepError"]);

const runCommand: RunCommand = async (name, options, run) => {
  const console = makeConsole(options.json);
  const report = await reportOf(name, options, console, run);
  const text = options.json
    ? toJson(name, report.status, { environment: environmentName(options.env), ...report.document })
    : report.text;
  if (text !== "") await write(process.stdout, text.endsWith("\n") ? text : `${text}\n`);
  process.exitCode = report.status;
  await closeHosts(options.env);
};

/** The connections that this command and the steps' runners shared would stay for a minute. */
async function closeHosts(env: string): Promise<void> {
  try {
    const targets = environmentTargets(findEnvironment(env));
    if (!targets.some(({ kind }) => kind === "ssh")) return;
    const { closeConnections } = await import("../bootstrap/runner/ssh-connection.js");
    await closeConnections(targets);
  } catch {
    // An environment that can't be found was told; a connection that can't be closed ends by itself.
  }
}

async function reportOf(
  name: string,
  options: CommonOptions,
  console: Console,
  run: (console: Console) => Promise<Report>,
): Promise<Report> {
  try {
    return await run(console);
  } catch (error) {
    const { status, message, details } = explain(name, error);
    // An interruption was told when it was dealt with.
    if (!options.json && !(error instanceof Interrupted)) console.say(message);
    return { status, text: "", document: { error: { message, ...details } } };
  }
}

/** What the user reads of an error, and the exit status. */
function explain(name: string, error: unknown): { status: ExitStatus; message: string; details: object } {
  if (error instanceof CommandError) return { status: error.status, message: error.message, details: error.details };
  if (error instanceof ProblemsError) {
    return { status: EXIT.usage, message: error.message, details: { problems: error.problems } };
  }
  if (error instanceof Error && SPOKEN_ERRORS.has(error.name)) {
    return { status: EXIT.failed, message: error.message, details: {} };
  }
  const trace = error instanceof Error && process.env["TANDEM_DEBUG"] !== undefined ? `\n${error.stack ?? ""}` : "";
  const hint = trace === "" ? "\n  TANDEM_DEBUG=1 shows where this came from" : trace;
  return { status: EXIT.failed, message: `tandem ${name} failed: ${messageOf(error)}${hint}`, details: {} };
}

function write(stream: NodeJS.WriteStream, text: string): Promise<void> {
  return new Promise((resolve) => stream.write(text, () => resolve()));
}

async function main(): Promise<void> {
  // A closed pipe (`tandem logs | head`) or a terminal that is gone must not end work in disorder.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
  serializeOnDemand();
  const program = defineCommands(new Command("tandem"), runCommand);
  try {
    await program.parseAsync();
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    // Commander has said what is wrong; help and version end with 0.
    const status = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (status !== EXIT.ok && process.argv.includes("--json")) {
      await write(process.stdout, `${toJson(process.argv[2] ?? "", status, { error: { message: error.message } })}\n`);
    }
    process.exitCode = status;
  }
  // Servers of the SDK may still listen.
  process.exit();
}

void main();
