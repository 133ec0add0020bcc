import { existsSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { TandemHome } from "./fixtures/tandem";

const SMALL = ["--model", "HuggingFaceTB/SmolLM2-135M-Instruct", "--gpus", "4", "--gpu-type", "h100-80gb"];

interface PlanDocument {
  readonly exitStatus: number;
  readonly verdict: string;
  readonly plan: { readonly tensorParallel: number; readonly replicas: number };
  readonly problems: readonly { readonly setting: string; readonly allowed?: string }[];
}

describe("tandem plan", () => {
  const tandem = new TandemHome();
  afterAll(() => tandem.remove());

  it("answers in one JSON document, with nothing written to disk", () => {
    const { status, stdout } = tandem.run(["plan", ...SMALL, "--json"]);
    const document = JSON.parse(stdout) as PlanDocument;
    expect(status).toBe(0);
    expect(document).toMatchObject({ command: "plan", ok: true, verdict: "fits" });
    expect(document.plan).toMatchObject({ tensorParallel: 1, replicas: 4 });
    expect(existsSync(tandem.home)).toBe(false);
  });

  it("never loads Pulumi", () => {
    const { status, stderr } = tandem.run(["plan", ...SMALL, "--json"], {
      NODE_OPTIONS: `--require ${require.resolve("./fixtures/refuse-pulumi.cjs")}`,
    });
    expect(stderr).toBe("");
    expect(status).toBe(0);
  });

  it("refuses a tensor parallel size that the heads can't be divided by, with status 3 and the sizes that work", () => {
    const { status, stdout, stderr } = tandem.run(["plan", ...SMALL, "--tensor-parallel", "4"]);
    expect(status).toBe(3);
    expect(`${stdout}${stderr}`).toMatch(/tensorParallel: .*9 attention heads.*got 4.*allowed: 1 or 3/);
    const { stdout: json } = tandem.run(["plan", ...SMALL, "--tensor-parallel", "4", "--json"]);
    const document = JSON.parse(json) as PlanDocument;
    expect(document).toMatchObject({ ok: false, exitStatus: 3, verdict: "does not fit" });
    expect(document.problems[0]).toMatchObject({ setting: "tensorParallel", allowed: "1 or 3" });
  });

  it("draws a bar for each GPU", () => {
    const { stdout } = tandem.run(["plan", ...SMALL]);
    expect(stdout.match(/^GPU [0-3] \[[^\]]+\]/gm)).toHaveLength(4);
  });

  it("plans for this machine when nobody names GPUs", () => {
    const { status, stdout } = tandem.run(["plan", "--json"]);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ environment: "local", ok: true });
  });

  it.each(["local", "dev-2gpu", "balanced-4gpu", "max-inference-4gpu", "max-training-2gpu", "ci"])(
    "plans the preset %s without an account",
    (preset) => {
      const { status, stderr } = tandem.run(["plan", "--env", preset, "--json"]);
      expect(stderr).toBe("");
      expect(status).toBe(0);
    },
  );

  it("takes the guide's variables for this run and says so; a flag beats them", () => {
    const variables = { VLLM_TENSOR_PARALLEL_SIZE: "2", VLLM_GPU_MEMORY_UTIL: "0.3" };
    const model = ["plan", "--model", "Qwen/Qwen3-0.6B", "--gpus", "2", "--gpu-type", "h100-80gb", "--json"];
    const { stdout, stderr } = tandem.run(model, variables);
    expect(stderr).toContain("VLLM_TENSOR_PARALLEL_SIZE=2 from the environment: tensorParallel 2, for this run\n");
    expect(JSON.parse(stdout)).toMatchObject({ plan: { tensorParallel: 2, replicas: 1, split: { serving: 0.3 } } });
    const flagged = tandem.run([...model, "--tensor-parallel", "1"], variables);
    expect(flagged.stderr).toContain("VLLM_TENSOR_PARALLEL_SIZE=2 from the environment is not used: --tensor-parallel");
    expect(JSON.parse(flagged.stdout)).toMatchObject({ plan: { tensorParallel: 1, replicas: 2 } });
  });
});

describe("bad input", () => {
  const tandem = new TandemHome();
  afterAll(() => tandem.remove());

  it("lists every problem of flags, --set and variables at once, with status 2 and without a stack trace", () => {
    const argv = [
      "plan",
      "--set",
      "tensorParalel=4",
      "--set",
      "split.serving=2",
      "--port",
      "99999999",
      "--lora-max-rank",
      "60",
    ];
    const { status, stderr } = tandem.run(argv, { VLLM_MAX_LORAS: "many" });
    expect(status).toBe(2);
    expect(stderr).toMatch(/tensorParalel: unknown setting — fix: did you mean tensorParallel\?/);
    expect(stderr).toMatch(/split\.serving: .*got 2/);
    expect(stderr).toMatch(/port: .*got 99999999/);
    expect(stderr).toMatch(/lora\.maxRank: .*got 60.*64/);
    expect(stderr).toMatch(/VLLM_MAX_LORAS: .*got many/);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  it.each([
    { argv: ["plan", "--tensor-paralel", "4"], near: "Did you mean --tensor-parallel?" },
    { argv: ["plann"], near: "Did you mean plan?" },
    { argv: ["plan", "--env", "balance-4gpu"], near: "fix: --env balanced-4gpu" },
    { argv: ["logs", "servin"], near: "fix: tandem logs serving" },
  ])("suggests the nearest name for $argv", ({ argv, near }) => {
    const { status, stderr } = tandem.run(argv);
    expect(stderr).toContain(near);
    expect(status).toBe(2);
  });

  it("lists the GPUs that it knows, and names the one that was meant", () => {
    const { status, stdout } = tandem.run(["plan", "--gpu-type", "help"]);
    expect(stdout).toContain("h100-80gb     NVIDIA H100 80GB HBM3, 79.6 GiB\n");
    expect(status).toBe(0);
    const wrong = tandem.run(["plan", "--gpu-type", "h100"]);
    expect(wrong.stdout).toMatch(/fix: use `h100-80gb`\n$/);
    expect(wrong.status).toBe(3);
  });

  it("names every host that can't be asked", () => {
    const { status, stderr } = tandem.run([
      "plan",
      "--set",
      "target=ssh",
      "--set",
      "ssh.hosts=[one.invalid, two.invalid]",
    ]);
    expect(stderr).toContain("one.invalid");
    expect(stderr).toContain("two.invalid");
    expect(stderr).not.toContain("TANDEM_DEBUG");
    expect(status).toBe(2);
  });

  it("says which file of a secret can't be read", () => {
    const { status, stderr } = tandem.run(["plan", "--hub-token", "@not-there"]);
    expect(stderr).toBe("--hub-token: the file can't be read (ENOENT) — got @not-there\n");
    expect(status).toBe(2);
  });

  it("answers with a JSON document also when the usage is wrong", () => {
    const { status, stdout } = tandem.run(["plan", "--json", "--nonsense"]);
    expect(status).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({
      ok: false,
      exitStatus: 2,
      error: { message: expect.stringContaining("--nonsense") },
    });
  });

  it.each(["../escape", "UPPER", "a b", "-x", "x".repeat(41)])("refuses %j as the name of an environment", (name) => {
    const { status, stderr } = tandem.run(["plan", `--env=${name}`]);
    expect(status).toBe(2);
    expect(stderr).toContain("--env: ");
  });

  it("asks for --yes where nobody can be asked, before anything is made", () => {
    const { status, stderr } = tandem.run(["destroy"]);
    expect(stderr).toContain("fix: add --yes");
    expect(status).toBe(2);
  });

  it("refuses a backend that is no address", () => {
    const { status, stderr } = tandem.run(["up", "--yes", "--backend", "/some/folder"]);
    expect(stderr).toContain("fix: a folder is file:///some/folder");
    expect(status).toBe(2);
  });

  it("refuses a relative TANDEM_HOME", () => {
    const { status, stderr } = tandem.run(["destroy", "--yes"], { TANDEM_HOME: "here" });
    expect(stderr).toContain("TANDEM_HOME: not an absolute path — got here");
    expect(status).toBe(2);
  });
});
