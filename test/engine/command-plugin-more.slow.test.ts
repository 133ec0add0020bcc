import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { local, remote } from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import type { EngineEvent, PulumiFn, Stack } from "@pulumi/pulumi/automation/index.js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openWorkbench, type Workbench } from "./workbench";

/** What was not recorded with Pulumi's own plugin, on the real engine with ours. */
let workbench: Workbench;
beforeAll(async () => {
  workbench = await openWorkbench();
});
afterAll(() => workbench?.close());

async function newStack(name: string, program: () => Record<string, unknown> | undefined): Promise<Stack> {
  return workbench.stack(name, toProgram(program));
}

function toProgram(program: () => Record<string, unknown> | undefined): PulumiFn {
  return () => Promise.resolve(program() ?? {});
}

/** Messages of a run that fails. */
async function failureOf(stack: Stack): Promise<string> {
  const messages: string[] = [];
  const onEvent = ({ diagnosticEvent }: EngineEvent) => messages.push(diagnosticEvent?.message ?? "");
  await expect(stack.up({ onEvent })).rejects.toThrow();
  return messages.join("");
}

test("a value that is not known before up leaves what hangs on it unknown in a preview, and is used in up", async () => {
  const stack = await newStack("unknown", () => {
    const one = new local.Command("one", { create: "echo from-one" });
    const two = new local.Command("two", { create: "cat", stdin: one.stdout, triggers: [one.stdout] });
    return { said: two.stdout };
  });
  await stack.preview();
  const { outputs } = await stack.up();
  expect(outputs["said"]!.value).toBe("from-one");
  expect((await stack.preview()).changeSummary).toEqual({ same: 3 });
  await stack.destroy();
});

test("in the preview of an update, what the command will print is unknown; without one it is known", async () => {
  const seen: unknown[] = [];
  const program = (text: string) => () => {
    const command = new local.Command("c", { create: "cat", stdin: text });
    command.stdout.apply((stdout) => seen.push(pulumi.runtime.isDryRun(), stdout));
  };
  const stack = await newStack("preview", program("one") as () => undefined);
  await stack.up();
  seen.length = 0;
  await stack.preview();
  expect(seen).toEqual([true, "one"]);
  seen.length = 0;
  stack.workspace.program = toProgram(program("two") as () => undefined);
  await stack.preview();
  expect(seen).toEqual([]);
  await stack.up();
  expect(seen).toEqual([false, "two"]);
});

test("chosen files come back as one archive", async () => {
  const dir = path.join(workbench.folder, "archive");
  mkdirSync(dir);
  writeFileSync(path.join(dir, "kept.txt"), "kept");
  const stack = await newStack("archive", () => {
    const command = new local.Command("c", { create: "true", dir, archivePaths: ["*.txt"] });
    return { archive: command.archive };
  });
  await stack.up();
  const state = JSON.stringify((await stack.exportStack()).deployment);
  expect(state).toContain(path.join(dir, "kept.txt"));
  expect((await stack.preview()).changeSummary).toEqual({ same: 2 });
});

test("what the program tells Pulumi to ignore stays as it was", async () => {
  const program = (text: string) => () => {
    new local.Command("c", { create: "cat", stdin: text }, { ignoreChanges: ["stdin"] });
    return undefined;
  };
  const stack = await newStack("ignore", program("one"));
  await stack.up();
  stack.workspace.program = toProgram(program("two"));
  expect((await stack.preview()).changeSummary).toEqual({ same: 2 });
});

test.each([
  ["dir", { dir: "/no/such/folder" }, "chdir /no/such/folder: no such file or directory"],
  [
    "interpreter",
    { interpreter: ["no-such-shell", "-c"] },
    'exec: "no-such-shell": executable file not found in $PATH',
  ],
  ["path", { interpreter: ["/no/such/shell"] }, "fork/exec /no/such/shell: no such file or directory"],
  ["signal", { create: "kill -TERM $$" }, "signal: terminated"],
])("a command that can't run says why: %s", async (name, args, message) => {
  const stack = await newStack(`why-${name}`, () => {
    new local.Command("c", { create: "true", ...args });
    return undefined;
  });
  expect(await failureOf(stack)).toContain(`${message}: running "`);
});

test("two megabytes of output, without a newline or in many lines, come through whole", async () => {
  const stack = await newStack("large", () => {
    const long = new local.Command("long", { create: "head -c 2000000 /dev/zero | tr '\\0' x", logging: "none" });
    const lines = new local.Command("lines", { create: "seq 2000", stdin: "x".repeat(2_000_000) });
    return {
      long: long.stdout.apply((text) => text.length),
      lines: lines.stdout.apply((text) => text.split("\n").length),
    };
  });
  const { outputs } = await stack.up();
  expect([outputs["long"]!.value, outputs["lines"]!.value]).toEqual([2_000_000, 2000]);
});

test("a resource that ours can't make is refused before anything runs, with what to do", async () => {
  const marker = path.join(workbench.folder, "ran");
  const stack = await newStack("remote", () => {
    const far = new remote.Command("far", { connection: { host: "192.0.2.1" }, create: "true" });
    new local.Command("c", { create: `touch ${marker}` }, { dependsOn: far });
    return undefined;
  });
  expect(await failureOf(stack)).toContain(
    "got command:remote:Command — allowed: command:local:Command — fix: where the internet can be reached, pulumi plugin install resource command 1.2.1",
  );
  expect(() => readFileSync(marker)).toThrow("ENOENT");
});
