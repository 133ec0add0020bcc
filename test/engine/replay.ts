import { mkdirSync } from "node:fs";
import * as path from "node:path";
import { local } from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import type { EngineEvent, PulumiFn, Stack } from "@pulumi/pulumi/automation/index.js";
import type { Workbench } from "./workbench";

/** One program of a scenario: the arguments of its one command. Secrets stand apart, since JSON has no word for them. */
export interface RecordedProgram {
  readonly args: local.CommandArgs & { readonly create: string };
  readonly secretStdin?: string;
  readonly secretEnv?: string;
  readonly opts?: pulumi.CustomResourceOptions;
}

export interface RecordedRun {
  readonly step: "preview" | "up" | "up again" | "destroy";
  readonly error?: "failed";
  readonly events: readonly RecordedEvent[];
  readonly outputs: Readonly<Record<string, unknown>>;
  readonly state: unknown;
}

export type RecordedEvent = Readonly<Record<string, unknown>>;

export interface Scenario {
  readonly program: readonly RecordedProgram[];
  readonly runs: readonly RecordedRun[];
}

/** Severity of what the SDK says about its own calls, which no display shows; its types leave it out. */
export const CHATTER: string = "debug";

/** Runs a recorded scenario again on the real engine with our plugin, and records it the same way. */
export async function replay(workbench: Workbench, name: string, scenario: Scenario): Promise<RecordedRun[]> {
  const folder = path.join(workbench.folder, "work", name);
  mkdirSync(folder, { recursive: true });
  const { program, runs } = JSON.parse(JSON.stringify(scenario).replaceAll("{{folder}}", folder)) as Scenario;
  const stack = await workbench.stack(name, () => Promise.resolve());
  const replayed: RecordedRun[] = [];
  let version = -1;
  for (const [index, { step }] of runs.entries()) {
    // A preview is of the program that the next run applies.
    if (step === "preview" && runs[index + 1]?.step === "up") version++;
    stack.workspace.program = toProgram(program[version]!);
    replayed.push(await record(stack, step));
  }
  return JSON.parse(JSON.stringify(replayed).replaceAll(folder, "{{folder}}")) as RecordedRun[];
}

function toProgram({ args, secretStdin, secretEnv, opts }: RecordedProgram): PulumiFn {
  return () => {
    const command = new local.Command(
      "c",
      {
        ...args,
        ...(secretStdin === undefined ? {} : { stdin: pulumi.secret(secretStdin) }),
        ...(secretEnv === undefined ? {} : { environment: { S: pulumi.secret(secretEnv) } }),
      },
      opts,
    );
    return Promise.resolve({ stdout: command.stdout, stderr: command.stderr });
  };
}

async function record(stack: Stack, step: RecordedRun["step"]): Promise<RecordedRun> {
  const events: RecordedEvent[] = [];
  const onEvent = (event: EngineEvent) => events.push(...summarize(event));
  let error: { error: "failed" } | undefined;
  let outputs = {};
  try {
    if (step === "preview") await stack.preview({ onEvent });
    else if (step === "destroy") await stack.destroy({ onEvent });
    else outputs = plain((await stack.up({ onEvent })).outputs);
  } catch {
    error = { error: "failed" };
  }
  return { step, ...error, events: withoutRepeats(events), outputs, state: await commandState(stack) };
}

/** The recorded form of an engine event. The stack itself is in it too: its operations equal the command's most times. */
function summarize(event: EngineEvent): RecordedEvent[] {
  if (event.resourcePreEvent !== undefined) {
    const { op, diffs, detailedDiff } = event.resourcePreEvent.metadata;
    return [{ op, ...(diffs?.length ? { diffs } : {}), ...(detailedDiff ? { detailedDiff } : {}) }];
  }
  if (event.resOutputsEvent !== undefined) return [{ done: event.resOutputsEvent.metadata.op }];
  if (event.resOpFailedEvent !== undefined) return [{ failed: event.resOpFailedEvent.metadata.op }];
  if (event.diagnosticEvent === undefined) return [];
  const { severity, message, ephemeral } = event.diagnosticEvent;
  if (severity === CHATTER) return [];
  const text = message.replaceAll(/<\{%[^%]*%\}>/g, "");
  return [{ severity, message: text, ...(ephemeral ? { ephemeral } : {}) }];
}

function withoutRepeats(events: readonly RecordedEvent[]): RecordedEvent[] {
  const seen = new Set<string>();
  return events.filter((event) => {
    const text = JSON.stringify(event);
    return !seen.has(text) && seen.add(text);
  });
}

function plain(outputs: Readonly<Record<string, { value: unknown }>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(outputs).map(([name, { value }]) => [name, value]));
}

async function commandState(stack: Stack): Promise<unknown> {
  const { deployment } = (await stack.exportStack()) as {
    deployment: { resources?: { type: string; inputs: object; outputs: object; additionalSecretOutputs?: string[] }[] };
  };
  const command = deployment.resources?.find(({ type }) => type === "command:local:Command");
  if (command === undefined) return null;
  const { inputs, outputs, additionalSecretOutputs } = command;
  return { inputs, outputs, ...(additionalSecretOutputs ? { additionalSecretOutputs } : {}) };
}
