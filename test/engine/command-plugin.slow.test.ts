import { readFileSync } from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { replay, type RecordedEvent, type RecordedRun, type Scenario } from "./replay";
import { openWorkbench, type Workbench } from "./workbench";

/** What Pulumi's own plugin 1.2.1 did, on the engine that Tandem pins. */
const recorded = JSON.parse(readFileSync(path.join(__dirname, "recorded.json"), "utf8")) as {
  recordedWith: { provider: string; engine: string };
  scenarios: Record<string, Scenario>;
};
const scenarios = Object.entries(recorded.scenarios);

let workbench: Workbench;
beforeAll(async () => {
  workbench = await openWorkbench();
});
afterAll(() => workbench?.close());

test("all 23 recorded scenarios are here", () => {
  expect(scenarios).toHaveLength(23);
});

describe("our plugin does what Pulumi's own did", () => {
  test.concurrent.for(scenarios)("%s", async ([name, scenario]) => {
    const replayed = await replay(workbench, name.replaceAll(/\W+/g, "-"), scenario);
    const normalize = printsOnBothStreams(scenario) ? inAnyOrder : (runs: readonly RecordedRun[]) => runs;
    expect(normalize(replayed)).toEqual(normalize(scenario.runs));
  });
});

/** Two pipes are read in no fixed order, by Pulumi's plugin as by ours: `why` came before `partial` in one recording. */
function printsOnBothStreams({ program }: Scenario): boolean {
  return program.some(({ args }) => args.create.includes(">&2") && /echo .*; echo/.test(args.create));
}

function inAnyOrder(runs: readonly RecordedRun[]): RecordedRun[] {
  return runs.map((run) => ({ ...run, events: sortStatusLines(run.events).map(sortLinesOfError) }));
}

/** Status lines keep the place of the first of them, in alphabetical order. */
function sortStatusLines(events: readonly RecordedEvent[]): RecordedEvent[] {
  const isStatus = (event: RecordedEvent) => event["ephemeral"] === true;
  const sorted = events
    .filter(isStatus)
    .sort((one, other) => (String(one["message"]) < String(other["message"]) ? -1 : 1));
  return events.map((event) => (isStatus(event) ? sorted.shift()! : event));
}

function sortLinesOfError(event: RecordedEvent): RecordedEvent {
  if (event["severity"] !== "error") return event;
  const [heading, ...lines] = String(event["message"]).split("\n");
  return { ...event, message: [heading, ...lines.sort()].join("\n") };
}
