import { Command } from "commander";
import { readdirSync, readFileSync } from "node:fs";
import * as path from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { defineCommands } from "../../cli/program";

const folder = path.join(__dirname, "../../examples/github-actions");

interface Workflow {
  readonly on: Readonly<Record<string, unknown>>;
  readonly permissions: Readonly<Record<string, string>>;
  readonly jobs: Readonly<
    Record<string, { readonly "timeout-minutes": number; readonly steps: readonly { readonly run?: string }[] }>
  >;
}

describe("the workflows for GitHub", () => {
  it.each(readdirSync(folder))("%s calls tandem with commands and flags that there are", (name) => {
    const workflow = parse(readFileSync(path.join(folder, name), "utf8")) as Workflow;
    expect(workflow.permissions).toEqual({ contents: "read", "id-token": "write" });
    const runs = Object.values(workflow.jobs).flatMap(({ steps }) => steps.flatMap(({ run }) => run ?? []));
    const calls = runs.flatMap((run) => /tandem (\w+.*)$/s.exec(run.replaceAll("\\\n", " "))?.[1] ?? []);
    expect(calls).toHaveLength(1);
    const known = defineCommands(new Command("tandem"), () => Promise.resolve());
    for (const call of calls) {
      const [command = "", ...words] = (call.split(" -- ")[0] ?? "").trim().split(/\s+/);
      const flags = known.commands.find((each) => each.name() === command)?.options.map(({ long }) => long);
      expect(flags, command).toBeDefined();
      for (const flag of words.filter((word) => word.startsWith("--"))) expect(flags).toContain(flag);
    }
  });

  it("the sweeper comes every hour", () => {
    const { on } = parse(readFileSync(path.join(folder, "sweeper.yml"), "utf8")) as Workflow;
    expect(on["schedule"]).toEqual([{ cron: expect.stringMatching(/^\d+ \* \* \* \*$/) as string }]);
  });
});
