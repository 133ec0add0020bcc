import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseSettings, settingsFromGuideEnvironment } from "../../plan";
import { GUIDE_VARIABLES } from "../../plan/guide-environment";

const manual = {
  VLLM_MODEL: "meta-llama/Llama-3.2-1B",
  VLLM_TENSOR_PARALLEL_SIZE: "4",
  VLLM_GPU_MEMORY_UTIL: "0.4",
  VLLM_ENABLE_LORA: "true",
  VLLM_MAX_LORAS: "8",
  VLLM_MAX_LORA_RANK: "64",
  VLLM_DTYPE: "auto",
  VLLM_TRUST_REMOTE_CODE: "true",
  CUDA_VISIBLE_DEVICES: "0,1,2,3",
  USE_MEGATRON_BRIDGE: "true",
};

describe("the guide's environment variables", () => {
  it("turn the guide's manual set-up into valid settings", () => {
    const { raw, used, problems } = settingsFromGuideEnvironment({ ...manual, PATH: "/bin" });
    expect(problems).toEqual([]);
    expect(used).toEqual(expect.arrayContaining(Object.keys(manual)));
    expect(used).toHaveLength(Object.keys(manual).length);
    const { settings } = parseSettings(raw);
    expect(settings).toMatchObject({
      model: "meta-llama/Llama-3.2-1B",
      tensorParallel: 4,
      devices: [0, 1, 2, 3],
      split: { serving: 0.4, training: 0.6 },
      training: { backend: "megatron-bridge" },
      serving: { trustRemoteCode: true },
    });
  });

  it("say nothing when none is set, or only to nothing", () => {
    expect(settingsFromGuideEnvironment({ MAX_LORAS: "", VLLM_MODEL: undefined })).toEqual({
      raw: {},
      used: [],
      problems: [],
    });
  });

  it("are refused when two of them contradict each other", () => {
    const { problems } = settingsFromGuideEnvironment({ MAX_LORAS: "4", VLLM_MAX_LORAS: "8" });
    expect(problems).toEqual([expect.objectContaining({ setting: "lora.maxAdapters", value: "8 and 4" })]);
  });

  it("name what is allowed when a value is not understood", () => {
    const { problems, raw } = settingsFromGuideEnvironment({ VLLM_ENABLE_LORA: "perhaps", MAX_LORAS: "many" });
    expect(problems.map(({ setting, allowed }) => [setting, allowed])).toEqual([
      ["VLLM_ENABLE_LORA", "true or false"],
      ["MAX_LORAS", "a whole number"],
    ]);
    expect(raw).toEqual({});
  });

  it("all stand in the migration table with their setting", () => {
    const table = readFileSync(join(__dirname, "../../docs/migration.md"), "utf8");
    for (const { name, setting } of GUIDE_VARIABLES) expect(table).toContain(`| \`${name}\` | \`${setting}\``);
  });
});
