import { describe, expect, it } from "vitest";
import { readAnswer } from "../../cli/ephemeral/answer";
import { OUTPUTS } from "./fixtures/outputs";

const answered = (code: number, document: unknown) =>
  readAnswer({ code, stdout: typeof document === "string" ? document : JSON.stringify(document), words: "" });

describe("what up answers to tandem ephemeral", () => {
  it("is the outputs of an environment that is up", () => {
    expect(answered(0, { outputs: OUTPUTS })).toEqual({ outputs: OUTPUTS });
  });

  it("is the error of one that is not, or which checks fail, or nothing", () => {
    expect(answered(1, { error: { message: "weights failed" } })).toEqual({ failure: "weights failed" });
    const checks = [
      { name: "generates", status: "pass", detail: "8 tokens" },
      { name: "replicas", status: "fail", detail: "1, planned 2" },
    ];
    const unhealthy = { ...OUTPUTS, health: { ...OUTPUTS.health, status: "failed", checks } };
    expect(answered(5, { outputs: unhealthy })).toEqual({ failure: "replicas: 1, planned 2" });
    expect(answered(137, "")).toEqual({});
  });
});
