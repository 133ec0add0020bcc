import { describe, expect, it } from "vitest";
import { builtInShape } from "../../plan/built-in-shapes";
import { findInstanceType, INSTANCE_TYPES, instanceFacts } from "../../plan/ec2-catalogue";
import { ladderOf, runsOf } from "../../plan/ec2-ladder";
import { planEc2 } from "../../plan/ec2-plan";
import { findGpuType } from "../../plan/gpu-types";
import { makePlan } from "../../plan/make-plan";
import { formatProblem } from "../../plan/problem";
import { parseSettings, type Settings, type SettingsInput } from "../../plan/settings";

const QWEN = "Qwen/Qwen3-0.6B";
const SHAPE = builtInShape(QWEN)!;
type Ec2Input = Partial<NonNullable<SettingsInput["ec2"]>>;

function raw(ec2: Ec2Input, more: SettingsInput): SettingsInput {
  return { target: "ec2", model: QWEN, ec2: { region: "us-east-1", allowedCidr: "203.0.113.7/32", ...ec2 }, ...more };
}
function settingsOf(ec2: Ec2Input = {}, more: SettingsInput = { gpus: 4 }): Settings {
  const { settings, problems } = parseSettings(raw(ec2, more));
  if (settings === undefined) throw new Error(problems.map(formatProblem).join("\n"));
  return settings;
}
function problemsOf(ec2: Ec2Input, more: SettingsInput = { gpus: 4 }): string[] {
  return parseSettings(raw(ec2, more)).problems.map(formatProblem);
}
const typesOf = (settings: Settings) => ladderOf(settings).map(({ instanceType }) => instanceType);

describe("the catalogue of EC2 types", () => {
  it("knows the GPU of every type, and lets a model be planned on it", () => {
    for (const type of INSTANCE_TYPES) {
      expect(findGpuType(type.gpuType), type.name).toBeDefined();
      const settings = settingsOf({ instanceTypes: type.name }, { gpus: "all" });
      const { plan } = makePlan({ settings, shape: SHAPE, hosts: [instanceFacts(type)] });
      expect(plan?.gpuIndices, type.name).toHaveLength(type.gpus);
    }
  });
});

describe("the ladder of choices", () => {
  it("grants a wish by the cheapest types with exactly so many GPUs", () => {
    expect(typesOf(settingsOf({ minGpuMemoryGiB: 24 }))).toEqual([
      "g6.12xlarge",
      "g5.12xlarge",
      "g6.24xlarge",
      "g5.24xlarge",
      "g6e.12xlarge",
      "g6e.24xlarge",
    ]);
    expect(typesOf(settingsOf({ minGpuMemoryGiB: 48 }))).toEqual(["g6e.12xlarge", "g6e.24xlarge"]);
    expect(typesOf(settingsOf({}, { gpus: 8, gpuType: "h100-80gb" }))).toEqual(["p5.48xlarge"]);
  });

  it("takes the next larger machine where none has so many GPUs", () => {
    expect(typesOf(settingsOf({}, { gpus: 2 }))[0]).toBe("g6.12xlarge");
    expect(typesOf(settingsOf({}, { gpus: 3, gpuType: "a100-80gb" }))).toEqual(["p4de.24xlarge"]);
  });

  it("tries all of one market before the next, types in the order given, zones within a type", () => {
    const settings = settingsOf({
      instanceTypes: ["g6.12xlarge", "g5.12xlarge"],
      zones: ["us-east-1b", "us-east-1a"],
      markets: ["spot", "on-demand"],
    });
    const rungs = ladderOf(settings);
    expect(rungs.slice(0, 3)).toEqual([
      { instanceType: "g6.12xlarge", zone: "us-east-1b", market: "spot" },
      { instanceType: "g6.12xlarge", zone: "us-east-1a", market: "spot" },
      { instanceType: "g5.12xlarge", zone: "us-east-1b", market: "spot" },
    ]);
    expect(runsOf(rungs).map((run) => [run[0]?.market, run.length])).toEqual([
      ["spot", 4],
      ["on-demand", 4],
    ]);
  });

  it("keeps to a ladder that is written out, with a request for each change of the market", () => {
    const settings = settingsOf({
      ladder: [
        { instanceType: "g6.12xlarge", market: "spot" },
        { instanceType: "g5.12xlarge" },
        { instanceType: "g5.12xlarge", market: "spot", zone: "us-east-1c" },
      ],
    });
    expect(runsOf(ladderOf(settings)).map((run) => run.map(({ market }) => market))).toEqual([
      ["spot"],
      ["on-demand"],
      ["spot"],
    ]);
  });
});

describe("planning before there is a machine", () => {
  it("lays the model over the GPUs of the type and names order and price", () => {
    const { ec2 } = planEc2(settingsOf({ minGpuMemoryGiB: 24 }, { gpus: 4, ttl: "4h" }), SHAPE);
    expect(ec2?.plan.gpuIndices).toEqual([0, 1, 2, 3]);
    expect(ec2?.plan.cost).toEqual({ pricePerHourUsd: 15.066, ttlSeconds: 14_400, capUsd: 60.26 });
    expect(ec2?.plan.reasons[0]).toContain("g6.12xlarge, on-demand; g5.12xlarge, on-demand");
    expect(ec2?.plan.reasons[1]).toMatch(/4\.602 to 15\.066 US dollars .*approximate/);
    expect(ec2?.highestPricePerHourUsd).toBe(15.066);
  });

  it("drops the types on which the model does not fit, and says why", () => {
    const model = "meta-llama/Llama-3.1-8B";
    const settings = settingsOf({ instanceTypes: ["g6.xlarge", "p5.4xlarge"] }, { gpus: "all", model });
    const { ec2 } = planEc2(settings, builtInShape(model)!);
    expect(ec2?.rungs.map(({ instanceType }) => instanceType)).toEqual(["p5.4xlarge"]);
    expect(ec2?.dropped[0]).toMatch(/^g6\.xlarge is not tried: /);
  });

  it("refuses when the model fits on none, with what would work", () => {
    const model = "meta-llama/Llama-3.1-8B";
    const { ec2, problems, ...rest } = planEc2(
      settingsOf({ instanceTypes: "g6.xlarge" }, { gpus: "all", model, split: { serving: 0.4 } }),
      builtInShape(model)!,
    );
    expect(ec2).toBeUndefined();
    expect(problems.map(formatProblem).join()).toContain("g6.xlarge");
    expect(rest).toHaveProperty("alternatives");
  });

  it("does not try what costs more than the limit, for all machines together", () => {
    const settings = settingsOf({ minGpuMemoryGiB: 24, machines: 2 }, { gpus: 4, maxPricePerHourUsd: 12 });
    const { ec2 } = planEc2(settings, SHAPE);
    expect(ec2?.rungs.map(({ instanceType }) => instanceType)).toEqual(["g6.12xlarge", "g5.12xlarge"]);
    expect(ec2?.highestPricePerHourUsd).toBe(11.344);
  });

  it("refuses when every choice costs more than an hour or the whole run may", () => {
    const textOf = (more: SettingsInput) =>
      planEc2(settingsOf({}, { gpus: 8, gpuType: "h100-80gb", ...more }), SHAPE).problems.map(formatProblem);
    expect(textOf({ maxPricePerHourUsd: 40 })).toEqual([
      "maxPricePerHourUsd: p5.48xlarge costs more than that — got about 55.04 US dollars an hour — allowed: at most 40 — fix: choose a cheaper type or raise the limit",
    ]);
    expect(textOf({ budgetUsd: 100, ttl: "10h" })).toEqual([
      "budgetUsd: p5.48xlarge for 10h costs more than that — got about 550.4 US dollars — allowed: at most 100 — fix: set `ttl` to 109m or less, choose a cheaper type, or raise the limit",
    ]);
    expect(textOf({ budgetUsd: 100, ttl: "109m" })).toEqual([]);
  });

  it("ends a run without a time to live where the budget ends", () => {
    const { ec2 } = planEc2(settingsOf({ instanceTypes: "g6.12xlarge" }, { gpus: 4, budgetUsd: 9.204 }), SHAPE);
    expect(ec2?.plan.cost).toEqual({ pricePerHourUsd: 4.602, ttlSeconds: 7200, capUsd: 9.2 });
  });
});

describe("settings of target ec2", () => {
  it("wants a way in that is not open to everybody", () => {
    expect(problemsOf({ allowedCidr: undefined })[0]).toMatch(/^ec2\.allowedCidr: is missing/);
    expect(problemsOf({ allowedCidr: "0.0.0.0/0" })[0]).toContain("lets the whole internet knock at port 22");
    expect(problemsOf({ allowedCidr: "::/0" })[0]).toContain("whole internet");
    expect(problemsOf({ allowedCidr: undefined, reach: "ssm" })[0]).toMatch(/^ec2\.instanceProfile: is missing/);
    expect(problemsOf({ allowedCidr: undefined, reach: "ssm", instanceProfile: "p" })).toEqual([]);
  });

  it("refuses an exposure that would let nobody in", () => {
    const ranges = { gateway: { allowedCidrs: ["203.0.113.0/24"] } };
    const files = { mode: "files", certificate: "/c.pem", key: "/k.pem" } as const;
    const without = { publicAddress: false, subnetIds: "subnet-0123456789abcdef0" };
    expect(problemsOf({}, { gpus: 4, exposure: "private", ...ranges })).toEqual([]);
    expect(problemsOf(without, { gpus: 4, exposure: "private" })).toEqual([]);
    expect(problemsOf({}, { gpus: 4, exposure: "private" })[0]).toMatch(
      /^gateway\.allowedCidrs: is missing, .*private/,
    );
    const publicly = { gpus: 4, exposure: "public", gateway: { ...ranges.gateway, tls: files } } as const;
    expect(problemsOf({}, publicly)).toEqual([]);
    expect(problemsOf(without, publicly)[0]).toMatch(/^ec2\.publicAddress: is off/);
    const acme = { mode: "acme", domain: "llm.example.com" } as const;
    expect(problemsOf({}, { ...publicly, gateway: { ...ranges.gateway, tls: acme } })[0]).toMatch(/needs port 80/);
  });

  it("names the nearest type of the catalogue, zones of other regions and types without EFA", () => {
    expect(problemsOf({ instanceTypes: "g6.12xlage" })[0]).toContain("use `g6.12xlarge`");
    expect(problemsOf({ zones: ["eu-west-1a"] })[0]).toContain("the zone is of another region — got eu-west-1a");
    expect(problemsOf({ instanceTypes: "g6.xlarge", efa: true })[0]).toContain("no Elastic Fabric Adapter");
    expect(findInstanceType("p5.48xlarge")?.efa).toBe(true);
  });

  it("wants a number of GPUs where no type is written out, and refuses one that no type has", () => {
    expect(problemsOf({}, {})[0]).toContain("says no number to choose a machine by");
    expect(problemsOf({}, { gpus: 9 })[0]).toContain("no type of the catalogue has that");
    expect(problemsOf({ minGpuMemoryGiB: 500 })[0]).toContain("4 GPUs with at least 500 GiB");
  });
});
