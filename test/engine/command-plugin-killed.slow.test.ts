import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import * as path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { local } from "@pulumi/command";
import type { EngineEvent, Stack } from "@pulumi/pulumi/automation/index.js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHATTER } from "./replay";
import { openWorkbench, type Workbench } from "./workbench";

interface Ending {
  readonly result: string;
  readonly secondsToEnd: number;
  readonly events: readonly string[];
  readonly commandAfterwards: "gone" | "running";
  readonly marker: readonly string[];
  readonly stateResources: readonly string[];
  readonly pendingOperations: readonly string[];
  readonly nextUp: string;
}

/** What happened to a command of Pulumi's own plugin when the engine was ended in the middle of it. */
const recorded = JSON.parse(readFileSync(path.join(__dirname, "recorded-killed.json"), "utf8")) as {
  scenarios: Record<string, Ending & { providersLeft: string }>;
};
const SIGNALS: Readonly<Record<string, readonly NodeJS.Signals[]>> = {
  "SIGINT to the engine": ["SIGINT"],
  "two SIGINT to the engine": ["SIGINT", "SIGINT"],
  "SIGTERM to the engine": ["SIGTERM"],
  "SIGKILL to the engine": ["SIGKILL"],
};
/** The engine takes half a second to end, on a busy machine more, for the command's `sleep` holds the pipe; it gives up on a second signal before. */
const BETWEEN_SIGNALS_MILLISECONDS = 20_000;

let workbench: Workbench;
beforeAll(async () => {
  workbench = await openWorkbench();
});
afterAll(() => workbench?.close());

describe("a command dies with the engine as it did with Pulumi's own plugin", () => {
  test.each(Object.entries(recorded.scenarios).map(([name, ending], index) => ({ name, ending, index })))(
    "$name",
    async ({ name, ending, index }) => {
      // The recording counted its own shell, and did not wait: ours must be gone.
      const { providersLeft: _, secondsToEnd: _seconds, ...expected } = ending;
      const { secondsToEnd, ...found } = await endInTheMiddle(`k${index + 1}`, SIGNALS[name]!);
      expect(found).toEqual(expected);
      expect(secondsToEnd).toBeLessThan(10);
    },
  );
});

/** Starts a run of a command that takes a minute, ends the engine, and looks at what is left. */
async function endInTheMiddle(name: string, signals: readonly NodeJS.Signals[]): Promise<Ending> {
  const folder = path.join(workbench.folder, "work", name);
  mkdirSync(folder, { recursive: true });
  const marker = path.join(folder, "marker");
  const stack = await workbench.stack(name, () => program(marker), "kill");
  const events: string[] = [];
  const run = stack
    .up({ onEvent: (event) => events.push(...summarize(event).map((text) => text.replaceAll(folder, "{{folder}}"))) })
    .then(() => "ok")
    // The first line of the Automation API's error: `code: -2`.
    .catch(
      (error: unknown) =>
        `error: ${String(error)
          .split("\n")[0]!
          .replace(/^\w*Error: /, "")}`,
    );
  await until(() => existsSync(marker));
  const engine = engineOf(name);
  const tree = descendants(engine);
  expect(tree.length).toBeGreaterThanOrEqual(2);
  const killedAt = Date.now();
  for (const signal of signals) {
    if (isRunning(engine)) process.kill(engine, signal);
    await Promise.race([run, sleep(BETWEEN_SIGNALS_MILLISECONDS, undefined, { ref: false })]);
  }
  const result = (await run).trim();
  const secondsToEnd = (Date.now() - killedAt) / 1000;
  await until(() => tree.every((processId) => !isRunning(processId)));
  const { resources, pending } = await stateOf(stack);
  return {
    result,
    secondsToEnd,
    events: [...new Set(events)],
    commandAfterwards: isRunning(Number(readFileSync(`${marker}.pid`, "utf8"))) ? "running" : "gone",
    marker: readFileSync(marker, "utf8").trim().split("\n"),
    stateResources: resources,
    pendingOperations: pending,
    nextUp: await stack.preview().then(
      () => "preview ok",
      (error: unknown) => String(error),
    ),
  };
}

function program(marker: string): Promise<void> {
  const first = new local.Command("first", { create: "echo one" });
  new local.Command(
    "long",
    {
      create:
        `trap 'echo got-term >> ${marker}; exit 143' TERM; trap 'echo got-int >> ${marker}; exit 130' INT; ` +
        `echo $$ > ${marker}.pid; echo started > ${marker}; for i in $(seq 120); do sleep 0.5; done; echo finished >> ${marker}`,
    },
    { dependsOn: first },
  );
  return Promise.resolve();
}

function summarize({ diagnosticEvent, resOpFailedEvent }: EngineEvent): string[] {
  if (resOpFailedEvent !== undefined) return [`failed ${resOpFailedEvent.metadata.op}`];
  if (diagnosticEvent === undefined || diagnosticEvent.severity === CHATTER) return [];
  return [`${diagnosticEvent.severity}: ${diagnosticEvent.message.replaceAll(/<\{%[^%]*%\}>/g, "").trim()}`];
}

async function stateOf(stack: Stack): Promise<{ resources: string[]; pending: string[] }> {
  const { deployment } = (await stack.exportStack()) as {
    deployment: {
      resources: { urn: string; type: string }[];
      pending_operations?: { type: string; resource: { urn: string } }[];
    };
  };
  const nameOf = (urn: string) => urn.slice(urn.lastIndexOf("::") + 2);
  return {
    resources: deployment.resources.map(({ urn, type }) => `${type} ${nameOf(urn)}`),
    pending: (deployment.pending_operations ?? []).map(({ type, resource }) => `${type} ${nameOf(resource.urn)}`),
  };
}

/** The engine that works on the stack: a child of ours. */
function engineOf(stack: string): number {
  const engines = processes().filter(({ parent, args }) => parent === process.pid && args.includes(stack));
  expect(engines).toHaveLength(1);
  return engines[0]!.id;
}

/** Everything below a process: the plugin, the command and what the command started. */
function descendants(ancestor: number): number[] {
  const all = processes();
  const below = (id: number): number[] =>
    all.filter(({ parent }) => parent === id).flatMap((child) => [child.id, ...below(child.id)]);
  return below(ancestor);
}

function processes(): { id: number; parent: number; args: string[] }[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const [, parent] = readFileSync(`/proc/${name}/stat`, "utf8").split(") ").at(-1)!.split(" ");
        const args = readFileSync(`/proc/${name}/cmdline`, "utf8").split("\0");
        return [{ id: Number(name), parent: Number(parent), args }];
      } catch {
        return []; // It ended while we looked.
      }
    });
}

/** A zombie counts as gone: it runs nothing and holds nothing. */
function isRunning(processId: number): boolean {
  const status = existsSync(`/proc/${processId}`) ? readFileSync(`/proc/${processId}/stat`, "utf8") : "";
  return status !== "" && !/\) [ZX] /.test(status);
}

async function until(isTrue: () => boolean): Promise<void> {
  for (let attempt = 0; attempt < 600; attempt++) {
    if (isTrue()) return;
    await sleep(100);
  }
  throw new Error("did not happen within a minute");
}
