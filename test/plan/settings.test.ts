import { describe, expect, it } from "vitest";
import { coerceConfig, formatProblem, ProblemsError, parseSettings, type Problem, secretSettings } from "../../plan";
import { ADAPTER_RANKS, nearestAdapterRank } from "../../plan/adapter-ranks";

function problemsOf(raw: unknown): readonly Problem[] {
  return parseSettings(raw).problems;
}

function settingsOf(raw: unknown) {
  const { settings, problems } = parseSettings(raw);
  if (settings === undefined) throw new Error(problems.map(formatProblem).join("\n"));
  return settings;
}

describe("settings", () => {
  it("all have defaults", () => {
    expect(settingsOf({})).toMatchObject({
      target: "local",
      model: "HuggingFaceTB/SmolLM2-135M-Instruct",
      port: 8000,
      gpus: "all",
      tensorParallel: "auto",
      replicas: "auto",
      split: { serving: 0.4, training: 0.6 },
      lora: { enabled: true, maxAdapters: 8, maxRank: 64 },
      training: { backend: "off" },
      serving: { dtype: "auto", trustRemoteCode: false, extraArgs: [], extraEnv: {} },
      runtime: "venv",
      vllmVersion: "0.32.0",
    });
    expect(settingsOf(undefined)).toEqual(settingsOf({}));
  });

  it("keep a preset's share, a plain number's and an object's", () => {
    expect(settingsOf({ split: "inference-heavy" }).split).toEqual({ serving: 0.7, training: 0.3 });
    expect(settingsOf({ split: "training-heavy" }).split).toEqual({ serving: 0.25, training: 0.75 });
    expect(settingsOf({ split: 0.3 }).split).toEqual({ serving: 0.3, training: 0.7 });
    expect(settingsOf({ split: { serving: 0.5, training: 0.2 } }).split).toEqual({ serving: 0.5, training: 0.2 });
  });

  it("take devices as a list, as text and as one number", () => {
    expect(settingsOf({ devices: [1, 0] }).devices).toEqual([1, 0]);
    expect(settingsOf({ devices: "0, 2" }).devices).toEqual([0, 2]);
    expect(settingsOf({ devices: 3 }).devices).toEqual([3]);
    expect(problemsOf({ devices: [0, 0] })).toEqual([expect.objectContaining({ setting: "devices", value: "[0,0]" })]);
  });

  it("report every mistake at once", () => {
    const settings = problemsOf({
      tensorParalel: 2,
      port: 70000,
      split: { serving: 0.99 },
      lora: { maxRank: 48, maxAdapter: 4 },
      training: { backend: "megatron" },
    }).map((problem) => problem.setting);
    expect(settings.toSorted()).toEqual([
      "lora.maxAdapter",
      "lora.maxRank",
      "port",
      "split.serving",
      "tensorParalel",
      "training.backend",
    ]);
  });

  it("report settings that contradict each other beside wrong ones, as far as it does not hang on these", () => {
    const namesOf = (raw: unknown) => problemsOf(raw).map((problem) => problem.setting);
    const training = { backend: "megatron-bridge", rank: 64 };
    expect(namesOf({ port: 70000, lora: { maxRank: 32 }, training })).toEqual(["port", "training.rank"]);
    expect(namesOf({ lora: { maxRank: 48 }, training })).toEqual(["lora.maxRank"]);
    expect(namesOf({ runtime: "docker", runtimeImage: "vllm" })).toEqual(["runtime"]);
    expect(namesOf({ runtim: "container", runtimeImage: "vllm" })).toEqual(["runtim"]);
    expect(namesOf({ target: "ssh", port: "x" }).toSorted()).toEqual(["port", "ssh"]);
    expect(namesOf({ target: "shh", port: 1, gpus: 3, devices: [0] })).toEqual(["target", "devices"]);
    expect(namesOf({ target: "ssh", ssh: { hosts: ["a b"] } })).toEqual(["ssh.hosts[0]"]);
    expect(namesOf({ split: { serving: 2 }, devices: [0], gpus: 3 })).toContain("devices");
    expect(namesOf({ training: 5, lora: { enabled: false } })).toEqual(["training"]);
  });

  it.each([
    [{ tensorParalel: 2 }, "tensorParalel", "use `tensorParallel`"],
    [{ tensor_parallel: 2 }, "tensor_parallel", "use `tensorParallel`"],
    [{ maxModelLen: 2 }, "maxModelLen", "use `serving.maxModelLen`"],
    [{ lora: { rank: 8 } }, "lora.rank", "see docs/settings.md"],
    [{ lora: { maxrank: 8 } }, "lora.maxrank", "use `lora.maxRank`"],
    [{ split: "inference_heavy" }, "split", "use `inference-heavy`"],
    [{ training: { backend: "megatron_bridge" } }, "training.backend", "use `megatron-bridge`"],
  ])("suggest what was meant by %j", (raw, setting, fix) => {
    expect(problemsOf(raw)).toEqual([expect.objectContaining({ setting, fix })]);
  });

  it.each([{ split: "fast" }, { ttl: "1 hour" }])("make up no choice for %j out of the words of the help", (raw) => {
    const [problem] = problemsOf(raw);
    expect(problem?.what).toBe("is not allowed");
    expect(problem?.fix).toBeUndefined();
  });

  it("name the nearest adapter rank that vLLM has", () => {
    expect(problemsOf({ lora: { maxRank: 40 } })).toEqual([
      {
        setting: "lora.maxRank",
        what: "is not allowed",
        value: "40",
        allowed: "1, 8, 16, 32, 64, 128, 256, 320, 512",
        fix: "use 32, the nearest that vLLM has",
      },
    ]);
  });

  it("find no adapter rank of vLLM's nearer than the one they name", () => {
    for (let rank = 1; rank <= 600; rank++) {
      const nearest = nearestAdapterRank(rank);
      const distances = ADAPTER_RANKS.map((allowed) => Math.abs(allowed - rank));
      expect(Math.abs(nearest - rank)).toBe(Math.min(...distances));
    }
  });

  it.each([[0.04], [0.96], [0], [1], [-1]])("refuse a share of %d", (serving) => {
    expect(problemsOf({ split: { serving } })).toEqual([
      expect.objectContaining({ setting: "split.serving", allowed: expect.stringContaining("0.05 to 0.95") }),
    ]);
    expect(problemsOf({ split: serving })).toHaveLength(1);
  });

  it("refuse shares that add up to more than 1, and say by how much to go down", () => {
    expect(problemsOf({ split: { serving: 0.7, training: 0.4 } })).toEqual([
      expect.objectContaining({ setting: "split", fix: expect.stringContaining("0.3") }),
    ]);
  });

  it("refuse an API key in the arguments without repeating it", () => {
    for (const extraArgs of [["--api-key=top-secret"], ["--api-key", "top-secret"]]) {
      const problems = problemsOf({ serving: { extraArgs } });
      expect(problems).toHaveLength(1);
      expect(problems.map(formatProblem).join()).not.toContain("top-secret");
    }
  });

  it("never show a secret in a problem", () => {
    const [problem] = problemsOf({ hubToken: 12345678 });
    expect(problem?.setting).toBe("hubToken");
    expect(JSON.stringify(problem)).not.toContain("12345678");
  });

  it("refuse an argument of vLLM that a setting owns, and name the setting", () => {
    expect(problemsOf({ serving: { extraArgs: ["--max-loras=2", "-tp", "2"] } }).map(({ what }) => what)).toEqual([
      "is set by another setting: use `lora.maxAdapters`",
      "is set by another setting: use `tensorParallel`",
    ]);
  });

  it.each([
    [{ devices: [0, 1], gpus: 4 }, "devices"],
    [{ training: { backend: "huggingface" }, lora: { enabled: false } }, "lora.enabled"],
    [{ training: { backend: "huggingface", rank: 128 } }, "training.rank"],
    [{ runtime: "existing" }, "runtimePath"],
    [{ target: "ssh" }, "ssh"],
    [{ target: "ec2" }, "ec2"],
  ])("refuse %j, which contradicts itself", (raw, setting) => {
    expect(problemsOf(raw)).toEqual([expect.objectContaining({ setting })]);
  });
});

describe("configuration values of a stack", () => {
  it("become what the schema takes: text stays text, numbers and objects are read", () => {
    expect(
      coerceConfig({
        model: "123",
        revision: "1.0",
        port: "9000",
        gpus: "all",
        tensorParallel: "4",
        devices: "0,1",
        split: '{"serving":0.3}',
        lora: '{"maxRank":32}',
        "serving.trustRemoteCode": "true",
        "serving.maxModelLen": "2048",
      }),
    ).toEqual({
      model: "123",
      revision: "1.0",
      port: 9000,
      gpus: "all",
      tensorParallel: 4,
      devices: "0,1",
      split: { serving: 0.3 },
      lora: { maxRank: 32 },
      serving: { trustRemoteCode: true, maxModelLen: 2048 },
    });
  });

  it("stay as they are when they can't be read, so that the schema says what is wrong", () => {
    expect(coerceConfig({ port: "eighty", nonsense: "1", lora: "{broken" })).toEqual({
      port: "eighty",
      nonsense: "1",
      lora: "{broken",
    });
  });

  it("name the secret ones", () => {
    expect(secretSettings).toEqual(["hubToken"]);
  });
});

describe("problems", () => {
  it("are shown as what, value, allowed and fix, all of a run under one heading", () => {
    const error = new ProblemsError(problemsOf({ port: 0, lora: { maxRank: 9 } }), "The stack file has mistakes");
    expect(error.message.split("\n")).toEqual([
      "The stack file has mistakes:",
      "  - port: is too small, the least is 1 — got 0 — allowed: a whole number from 1 to 65535",
      "  - lora.maxRank: is not allowed — got 9 — allowed: 1, 8, 16, 32, 64, 128, 256, 320, 512 — fix: use 8, the nearest that vLLM has",
    ]);
  });
});
