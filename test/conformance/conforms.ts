import { expect } from "vitest";
import { outputsSchema, type Outputs } from "../../stacks/outputs";

/** What a stack was asked for, as far as its outputs must tell of it. */
export interface Expected {
  readonly target: "local" | "ssh" | "ec2" | "kubernetes";
  readonly model: string;
  /** Of each host, or pod. */
  readonly tensorParallel: number;
  readonly hosts: number;
  readonly trains?: boolean;
}

/** Fields that every stack has, on whatever it runs; `[]` stands for each element. */
const ALWAYS = [
  "version",
  ...["baseUrl", "chat", "completions", "models", "metrics"].map((name) => `endpoints.${name}`),
  "apiKey",
  "apiKeys.default",
  ...["status", "url", "provenAt"].map((name) => `health.${name}`),
  ...["name", "status", "detail"].map((name) => `health.checks[].${name}`),
  ...["model", "servedModelName", "device", "tensorParallel", "replicas", "kvCacheTokens"].map(
    (name) => `plan.${name}`,
  ),
  "plan.split.serving",
  "plan.split.training",
  ...["tensorParallel", "replicas"].map((name) => `measured.${name}`),
  ...["name", "address", "target", "baseUrl", "health", "tensorParallel", "replicas"].map((name) => `hosts[].${name}`),
  "cost.startedAt",
];

/**
 * The one set of assertions that the outputs of every target pass: same names, same shapes, and what belongs together agrees. What a
 * target has beyond them (a tunnel, a price, a certificate) is its own test's matter.
 */
export function expectConforms(outputs: Outputs, expected: Expected): void {
  expect(outputsSchema.parse(outputs)).toEqual(outputs);
  const paths = pathsOf(outputs);
  for (const path of ALWAYS) expect(paths, `the outputs of ${expected.target}`).toContain(path);

  const { endpoints, plan, measured, hosts, health } = outputs;
  const server = endpoints.baseUrl.replace(/\/v1$/, "");
  expect(endpoints).toMatchObject({
    baseUrl: `${server}/v1`,
    chat: `${server}/v1/chat/completions`,
    completions: `${server}/v1/completions`,
    models: `${server}/v1/models`,
    metrics: `${server}/metrics`,
  });
  expect(health.url).toBe(`${server}/health`);
  expect(outputs.apiKeys["default"]).toBe(outputs.apiKey);
  expect(plan).toMatchObject({ model: expected.model, tensorParallel: expected.tensorParallel });
  // What was measured is what was planned: read back, never copied.
  expect(measured).toMatchObject({ tensorParallel: plan.tensorParallel, replicas: plan.replicas });
  expect(plan.perGpu).toHaveLength(plan.gpus.length * hosts.length);
  expect(plan.split.serving + plan.split.training).toBeLessThanOrEqual(1);
  expect(endpoints.fineTuning !== undefined).toBe(expected.trains === true);

  expect(hosts).toHaveLength(expected.hosts);
  expect([hosts[0]?.baseUrl, hosts[0]?.connect]).toEqual([endpoints.baseUrl, endpoints.connect]);
  for (const host of hosts) {
    expect(host).toMatchObject({ target: expected.target, tensorParallel: expected.tensorParallel });
    expect(host.gpus.length).toBeGreaterThanOrEqual(plan.gpus.length);
  }
  expect(new Set(hosts.map(({ name }) => name)).size).toBe(hosts.length);
  // Every check belongs to its host where there are several, and the worst decides.
  expect(["healthy", "degraded"]).toContain(health.status);
  expect(health.checks.map(({ name }) => name.replace(/^.*: /, ""))).toEqual(
    expect.arrayContaining(["generates", "model", "tensor parallel size", "replicas", "tokens a request", "KV cache"]),
  );
  expect(Date.parse(health.provenAt)).toBeGreaterThan(Date.parse(outputs.cost.startedAt) - 1000);
}

/** Paths of all values that are there. */
function pathsOf(value: unknown, path = ""): string[] {
  if (Array.isArray(value)) return value.flatMap((one) => pathsOf(one, `${path}[]`));
  if (typeof value !== "object" || value === null) return value === undefined ? [] : [path];
  return Object.entries(value).flatMap(([name, one]) => pathsOf(one, path === "" ? name : `${path}.${name}`));
}
