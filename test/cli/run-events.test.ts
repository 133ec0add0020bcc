import type { EngineEvent } from "@pulumi/pulumi/automation";
import { describe, expect, it } from "vitest";
import { translateEvent } from "../../cli/engine-events";
import { essenceOf } from "../../cli/failure";
import { formatSeconds, PlainProgress } from "../../cli/progress";

const URN = "urn:pulumi:local::tandem::tandem:index:ServingPair$command:local:Command::local-serving";

function preEvent(op: string, tokens: { old?: string; next?: string } = {}): EngineEvent {
  const state = (token?: string) => ({ custom: true, inputs: { environment: { TANDEM_REPAIR: token } } });
  const metadata = {
    op,
    urn: URN,
    type: "command:local:Command",
    diffs: ["environment"],
    old: state(tokens.old),
    new: state(tokens.next),
  };
  return { sequence: 1, timestamp: 1, resourcePreEvent: { metadata } } as unknown as EngineEvent;
}

function diagnostic(fields: object): EngineEvent {
  return { sequence: 1, timestamp: 1, diagnosticEvent: { color: "never", ...fields } } as EngineEvent;
}

describe("the engine's events", () => {
  it("name the step without the environment", () => {
    expect(translateEvent(preEvent("create"), "local")).toEqual([
      { kind: "started", step: "serving", action: "create" },
    ]);
  });

  it("give the reason of a repair from its token, without the token's random part", () => {
    const event = preEvent("update", { old: "as before #00000000", next: "the unit is gone #1a2b3c4d" });
    expect(translateEvent(event, "local")).toMatchObject([{ action: "update", reason: "the unit is gone" }]);
  });

  it("give another reason when the settings changed and nothing was lost", () => {
    const event = preEvent("update", { old: "same #00000000", next: "same #00000000" });
    expect(translateEvent(event, "local")).toMatchObject([{ reason: "its settings changed" }]);
  });

  it("tell each line of a step, without Pulumi's colour marks", () => {
    const event = diagnostic({
      urn: URN,
      severity: "info",
      ephemeral: true,
      message: "<{%fg 1%}>loading 40 %<{%reset%}>\nKV cache\n",
    });
    expect(translateEvent(event, "local")).toEqual([
      { kind: "line", step: "serving", text: "loading 40 %" },
      { kind: "line", step: "serving", text: "KV cache" },
    ]);
  });

  it("leave out what tells a reader nothing", () => {
    expect(translateEvent(diagnostic({ severity: "error", message: "update failed\n" }), "local")).toEqual([]);
    expect(translateEvent(diagnostic({ severity: "debug", message: "Registering resource" }), "local")).toEqual([]);
    expect(translateEvent({ sequence: 1, timestamp: 1, cancelEvent: {} }, "local")).toEqual([]);
  });
});

describe("the essence of a failure", () => {
  it("is the runner's own block at the end of everything a command printed", () => {
    const message = [
      "exit status 1: running \"runner='/x'; exec apply\":",
      "serving: loading weights",
      "serving failed on this machine: Address already in use",
      "  cause: port 8000 is taken",
      "  cure:  --port 8001",
      "  log:   /var/log/serving.log",
      "",
    ].join("\n");
    expect(essenceOf(message)).toBe(
      "serving failed on this machine: Address already in use\n  cause: port 8000 is taken\n  cure:  --port 8001\n  log:   /var/log/serving.log",
    );
  });

  it("is the last lines of a command that says nothing of itself", () => {
    const lines = Array.from({ length: 200 }, (_, index) => `line ${index}`);
    expect(essenceOf(['exit status 3: running "x":', ...lines].join("\n")).split("\n")).toEqual(lines.slice(-6));
  });

  it("never shows a stack trace", () => {
    const message = "Unhandled exception: Error: no such thing\n    at f (/a/b.js:1:2)\n    at /a/c.js:3:4";
    expect(essenceOf(message)).toBe("Unhandled exception: Error: no such thing");
  });
});

describe("plain progress", () => {
  it("has one line for each thing that happens, says each once, and counts what is unchanged", () => {
    const lines: string[] = [];
    const progress = new PlainProgress((line) => lines.push(line));
    progress.handle({ kind: "finished", step: "lease", action: "unchanged" });
    progress.handle({ kind: "started", step: "serving", action: "update", reason: "the unit is gone" });
    progress.handle({ kind: "line", step: "serving", text: "loading weights 40 %" });
    progress.handle({ kind: "line", step: "serving", text: "loading weights 40 %" });
    progress.handle({ kind: "finished", step: "serving", action: "update" });
    progress.close();
    expect(lines).toEqual([
      "serving: updating — the unit is gone",
      "serving: loading weights 40 %",
      expect.stringMatching(/^serving: done in 0\.\d s$/),
      "1 step unchanged",
    ]);
  });

  it("writes times as people read them", () => {
    expect([0.42, 34.4, 89.6, 125].map(formatSeconds)).toEqual(["0.4 s", "34 s", "1 min 30 s", "2 min 05 s"]);
  });
});
