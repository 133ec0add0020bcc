import { Option, type Command } from "commander";
import { STEP_NAMES } from "../bootstrap/runner/request";
import type { ChangeOptions, CommonOptions, SettingOptions } from "./commands/options";
import type { Console } from "./console";
import type { Report } from "./report";
import { settingOptions } from "./setting-flags";
import { packageVersion } from "./version";

export type RunCommand = (
  name: string,
  options: CommonOptions,
  run: (console: Console) => Promise<Report>,
) => Promise<void>;

const EXIT_STATUS_HELP = `
Exit status: 0 ok, 1 failed, 2 bad usage or settings, 3 the plan does not fit,
             4 busy, 5 not healthy, 130 interrupted`;

/** All commands with their options, help and an example each. */
export function defineCommands(program: Command, run: RunCommand): Command {
  program
    .description("Serve a model with vLLM and train adapters beside it, on the same GPUs, with Pulumi.")
    .version(packageVersion(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .addHelpText(
      "after",
      `${EXIT_STATUS_HELP}\n\nFirst steps: tandem plan, tandem up, eval "$(tandem outputs --env-vars)", tandem destroy`,
    )
    .configureHelp({ optionDescription: describeOption })
    .exitOverride();
  definePlan(program, run);
  defineChanges(program, run);
  defineQuestions(program, run);
  defineDestroy(program, run);
  defineEphemeral(program, run);
  defineCloud(program, run);
  for (const command of program.commands)
    command.showHelpAfterError(`(tandem ${command.name()} --help lists its flags)`);
  return program;
}

function definePlan(program: Command, run: RunCommand): void {
  withSettings(common(program.command("plan")))
    .description("Say what would run on which GPU and where the memory goes. Needs no account, network or Pulumi.")
    .addHelpText("after", example("tandem plan --model meta-llama/Llama-3.2-1B --gpus 4 --gpu-type h100-80gb"))
    .action(async (options: SettingOptions) => {
      await run("plan", options, async (console) => (await import("./commands/plan.js")).plan(options, console));
    });
}

function defineChanges(program: Command, run: RunCommand): void {
  withBackend(withSettings(common(program.command("preview"))))
    .description("Show what `up` would change. Changes nothing, saves nothing.")
    .addHelpText("after", example("tandem preview --env balanced-4gpu"))
    .action(async (options: ChangeOptions) => {
      await run("preview", options, async (console) =>
        (await import("./commands/preview.js")).preview(options, console),
      );
    });
  withYes(withBackend(withSettings(common(program.command("up")))))
    .description("Serve the model and prove that it answers. Flags are saved for the next runs.")
    .option("--show-secrets", "print the API key in the --json document", false)
    .addHelpText("after", example("tandem up --model Qwen/Qwen3-0.6B --split inference-heavy"))
    .action(async (options: ChangeOptions & { showSecrets: boolean }) => {
      await run("up", options, async (console) => (await import("./commands/up.js")).up(options, console));
    });
}

function defineQuestions(program: Command, run: RunCommand): void {
  defineDoctor(program, run);
  defineOutputs(program, run);
  withBackend(common(program.command("status")))
    .option("--deep", "train a tiny adapter, load and sample it, too; it leaves nothing behind", false)
    .description("Measure now whether the service does what was planned. Exit status 5 when it does not.")
    .addHelpText("after", example("tandem status --json"))
    .action(async (options: CommonOptions & { backend?: string; deep: boolean }) => {
      await run("status", options, async (console) => (await import("./commands/status.js")).status(options, console));
    });
  common(program.command("logs"))
    .argument("[step]", `${STEP_NAMES.join(", ")}; without it all of them (serving with -f)`)
    .option("--host <name>", "which host, where there are several")
    .option("-f, --follow", "go on with what is written from now on", false)
    .description("Print the log of the service, or of one step.")
    .addHelpText("after", example("tandem logs serving -f"))
    .action(async (step: string | undefined, options: CommonOptions & { follow: boolean; host?: string }) => {
      await run("logs", options, async (console) => (await import("./commands/logs.js")).logs(step, options, console));
    });
}

function defineDoctor(program: Command, run: RunCommand): void {
  withSettings(common(program.command("doctor")))
    .argument("[host]", "one host of the environment by its name; without it all of them")
    .description(
      "Examine the hosts: system, driver, health and links of the GPUs. Changes nothing. Exit status 5 when a check fails.",
    )
    .addHelpText("after", example("tandem doctor --env balanced-4gpu"))
    .action(async (host: string | undefined, options: SettingOptions) => {
      await run("doctor", options, async (console) =>
        (await import("./commands/doctor.js")).doctor(host, options, console),
      );
    });
}

function defineOutputs(program: Command, run: RunCommand): void {
  withBackend(withJson(program.command("outputs")))
    .argument("[name]", "one output, e.g. endpoints.chat or apiKey")
    .option("-e, --env [name|file]", "the environment; without a name the same as --env-vars", "local")
    .option("--env-vars", 'print lines for a shell: eval "$(tandem outputs --env-vars)"', false)
    .option("--show-secrets", "print secrets as they are", false)
    .description("Print what the last `up` produced. Secrets are hidden unless they are asked for by name.")
    .addHelpText("after", example("tandem outputs endpoints.chat"))
    .action(async (name: string | undefined, given: OutputsOptions) => {
      // `--env` without a name is what people type for a shell's variables.
      const options = given.env === true ? { ...given, env: "local", envVars: true } : { ...given, env: given.env };
      await run("outputs", options, async (console) =>
        (await import("./commands/outputs.js")).outputs(name, options, console),
      );
    });
}

interface DestroyOptions extends CommonOptions {
  readonly yes: boolean;
  readonly forget: boolean;
  readonly keepCache: boolean;
  readonly abandon?: string;
  readonly backend?: string;
}

interface OutputsOptions extends Omit<CommonOptions, "env"> {
  readonly env: string | true;
  readonly json: boolean;
  readonly envVars: boolean;
  readonly showSecrets: boolean;
  readonly backend?: string;
}

function defineDestroy(program: Command, run: RunCommand): void {
  withYes(withBackend(common(program.command("destroy"))))
    .description("Take everything away again and prove that nothing is left.")
    .option("--abandon <host>", "give up a host that can't be reached any more: nothing is taken away there")
    .option("--keep-cache", "leave models and runtimes on the hosts, whatever the setting `cache` says", false)
    .option("--forget", "forget the state without reading it, for a passphrase that is lost", false)
    .addHelpText("after", example("tandem destroy --yes"))
    .action(async (options: DestroyOptions) => {
      await run("destroy", options, async (console) =>
        (await import("./commands/destroy.js")).destroy(options, console),
      );
    });
}

/** A command's own words come after `--`, so that none of them is taken for ours. */
function defineEphemeral(program: Command, run: RunCommand): void {
  withBackend(withSettings(withEnvironment(program.command("ephemeral"))))
    .argument("<command...>", "what to run, after --")
    .option("--keep-on-failure <duration>", "leave the environment for so long when the command failed")
    .option("--artifacts <folder>", "keep outputs, logs and what explains a failure there")
    .option("--junit <file>", "write a JUnit summary")
    .option("--json <file>", "write a JSON summary")
    .description(
      "Run a command with an environment of its own that is always taken away again; ends with the command's exit status.",
    )
    .addHelpText("after", `${EPHEMERAL_STATUS_HELP}${example("tandem ephemeral --env ci --ttl 1h -- pytest tests/")}`)
    .action(async (words: string[], given: EphemeralFlags) => {
      const { json: summary, ...options } = given;
      let code: number | undefined;
      await run("ephemeral", { ...options, json: false }, async (console) => {
        const { ephemeral } = await import("./commands/ephemeral.js");
        code = await ephemeral(words, { ...options, json: false, summary }, console);
        return { status: 0, document: {}, text: "" };
      });
      if (code !== undefined) process.exitCode = code;
    });
}

const EPHEMERAL_STATUS_HELP = `
Exit status: the command's; 2 and 3 as everywhere, 124 the command passed and something may be left,
             125 the environment did not come up, 126 and 127 the command did not start,
             129, 130 and 143 for SIGHUP, SIGINT and SIGTERM`;

interface EphemeralFlags {
  readonly env: string;
  readonly set: readonly string[];
  readonly json?: string;
}

/** What lives in a cloud, by its tags. */
function defineCloud(program: Command, run: RunCommand): void {
  withJson(program.command("reap"))
    .option("--region <name>", "only there; may be given again", (name, names: string[]) => [...names, name], [])
    .option(
      "--kube-context <name>",
      "namespaces of this cluster; may be given again, and then only clouds that --region names are asked",
      (name, names: string[]) => [...names, name],
      [],
    )
    .option("--older-than <duration>", "only what has been over for so long")
    .option("--dry-run", "say what would be deleted, delete nothing", false)
    .description(
      "Delete what expired runs left in the cloud, by its tags alone: no state, no settings. Safe to run from cron. Exit status 1 when something remains.",
    )
    .addHelpText("after", example("tandem reap --dry-run --region us-east-1"))
    .action(
      async (
        options: CommonOptions & { region: string[]; kubeContext: string[]; olderThan?: string; dryRun: boolean },
      ) => {
        await run("reap", { ...options, env: "local" }, async (console) =>
          (await import("./commands/reap.js")).reapCloud(options, console),
        );
      },
    );
  common(program.command("extend"))
    .requiredOption("--ttl <duration>", "the environment ends so far from now")
    .description("Move the end of an environment that has one. Changes its timers and tags and nothing else.")
    .addHelpText("after", example("tandem extend --env nightly --ttl 1h"))
    .action(async (options: CommonOptions & { ttl: string }) => {
      await run("extend", options, async (console) => (await import("./commands/extend.js")).extend(options, console));
    });
}

function common(command: Command): Command {
  return withEnvironment(withJson(command));
}

function withEnvironment(command: Command): Command {
  return command.option(
    "-e, --env <name|file>",
    "the environment: a preset's name, one used before, or a settings file",
    "local",
  );
}

function withJson(command: Command): Command {
  return command.option(
    "--json",
    "print one JSON document on standard output, everything else on standard error",
    false,
  );
}

function withSettings(command: Command): Command {
  const collect = (text: string, texts: string[]) => [...texts, text];
  for (const option of settingOptions()) command.addOption(option);
  return command
    .addOption(
      new Option("--set <setting=value>", "any setting by its full name; may be given again")
        .argParser(collect)
        .default([]),
    )
    .addHelpText("after", "\nEvery setting has a flag: --lora-max-rank for lora.maxRank. docs/settings.md lists them.");
}

function withBackend(command: Command): Command {
  return command.option("--backend <url>", "where Pulumi keeps the state (file://, s3://, https://api.pulumi.com, …)");
}

function withYes(command: Command): Command {
  return command.option("-y, --yes", "do not ask", false);
}

/** Commander would add "(default: false)" to every switch. */
function describeOption({ description, defaultValue }: Option): string {
  return typeof defaultValue === "string" && defaultValue !== ""
    ? `${description} (default: ${defaultValue})`
    : description;
}

function example(line: string): string {
  return `\nExample: ${line}`;
}
