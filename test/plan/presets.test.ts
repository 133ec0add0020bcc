import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { coerceConfig, formatProblem, hypotheticalHost, parseSettings, type SettingsInput } from "../../plan";
import { CPU_HOST, planOf } from "./hosts";

const FOLDER = join(__dirname, "../../stacks");
const presets = readdirSync(FOLDER).flatMap((file) => /^Pulumi\.(.+)\.yaml$/.exec(file)?.[1] ?? []);

/** Raw settings of a preset, through the same door as a stack's configuration: every value as text. */
function rawOf(preset: string): SettingsInput {
  const { config } = parse(readFileSync(join(FOLDER, `Pulumi.${preset}.yaml`), "utf8")) as {
    config: Record<string, unknown>;
  };
  const texts = Object.entries(config).map(([key, value]) => {
    expect(key).toMatch(/^tandem:/);
    return [key.slice("tandem:".length), typeof value === "string" ? value : JSON.stringify(value)] as const;
  });
  return coerceConfig(Object.fromEntries(texts));
}

function planOfPreset(preset: string) {
  const { settings, problems } = parseSettings(rawOf(preset));
  if (settings === undefined) throw new Error(problems.map(formatProblem).join("\n"));
  const { gpus, gpuType } = settings;
  const host = gpuType === undefined ? CPU_HOST : hypotheticalHost({ gpus: gpus === "all" ? 1 : gpus, gpuType });
  return planOf(rawOf(preset), host);
}

describe("the shipped environments", () => {
  it("are the six that the guide's commands lead to", () => {
    expect(presets.toSorted()).toEqual([
      "balanced-4gpu",
      "ci",
      "dev-2gpu",
      "local",
      "max-inference-4gpu",
      "max-training-2gpu",
    ]);
  });

  it.each(presets)("%s plans without an account, a network or a GPU", (preset) => {
    expect(["fits", "tight"]).toContain(planOfPreset(preset).verdict);
  });

  it.each([
    ["dev-2gpu", { tensorParallel: 1, replicas: 2, split: { serving: 0.3, training: 0.7 } }],
    ["balanced-4gpu", { model: "meta-llama/Llama-3.2-1B", replicas: 4, split: { serving: 0.4, training: 0.6 } }],
    ["max-inference-4gpu", { model: "Qwen/Qwen3-0.6B", split: { serving: 0.7, training: 0.3 } }],
    [
      "max-training-2gpu",
      { split: { serving: 0.2, training: 0.8 }, lora: { enabled: true, maxAdapters: 4, maxRank: 64 } },
    ],
    ["ci", { device: "cpu", maxModelLen: 2048, training: { backend: "off" } }],
    ["local", { device: "cpu", maxModelLen: 2048, port: 8000, training: { backend: "huggingface" } }],
  ])("%s is what the guide meant by it", (preset, expected) => {
    expect(planOfPreset(preset)).toMatchObject(expected);
  });
});
