import { existsSync } from "node:fs";
import { delimiter, join, relative } from "node:path";
import { createColors } from "picocolors";
import { packageRoot } from "../bootstrap/runner/package-root";
import type { Outputs } from "../stacks/outputs";
import { formatSeconds } from "./progress";

type Check = Outputs["health"]["checks"][number];

function colorsFor(stream: NodeJS.WriteStream) {
  return createColors(stream.isTTY && process.env["NO_COLOR"] === undefined);
}

/** Endpoints, health, memory and how to use it: the end of `tandem up`. */
export function renderOutputs(outputs: Outputs, environmentName: string, stream: NodeJS.WriteStream): string {
  const { endpoints, health, plan } = outputs;
  const lines = Object.entries(endpoints).map(([name, url]) => `  ${name.padEnd(12)} ${url}`);
  return [
    `${plan.servedModelName}: ${describeHealth(health.status, stream)}, ${describeShape(plan)}`,
    ...lines,
    "",
    ...renderChecks(health.checks, stream),
    ...renderMemory(outputs),
    ...renderHosts(outputs),
    "",
    ...renderUse(outputs, environmentName),
  ].join("\n");
}

/** One line a check. */
export function renderChecks(checks: readonly Check[], stream: NodeJS.WriteStream): string[] {
  const colors = colorsFor(stream);
  const paint = { pass: colors.green, warn: colors.yellow, fail: colors.red };
  const width = Math.max(...checks.map(({ name }) => name.length), 8);
  return checks.map(({ name, status, detail, seconds }) => {
    const time = seconds === undefined ? "" : ` (${formatSeconds(seconds)})`;
    return `  ${paint[status](status)}  ${name.padEnd(width)}  ${detail}${time}`;
  });
}

/** Measured against planned, a line for each GPU; empty on the CPU. */
export function renderMemory({ measured }: Pick<Outputs, "measured">): string[] {
  return measured.perGpu.map(({ index, servingGiB, plannedServingGiB, trainingGiB, freeGiB }) => {
    const difference = plannedServingGiB === 0 ? "" : ` (${signed((servingGiB / plannedServingGiB - 1) * 100)} %)`;
    return `  GPU ${index}: serving ${servingGiB.toFixed(1)} GiB, planned ${plannedServingGiB.toFixed(1)}${difference}; training ${trainingGiB.toFixed(1)}; free ${freeGiB.toFixed(1)}`;
  });
}

/** With several hosts each one's address; the endpoints above are the first one's. */
function renderHosts({ hosts }: Outputs): string[] {
  if (hosts.length < 2) return [];
  return hosts.map(({ name, health, baseUrl, connect }) => {
    const way = connect === undefined ? "" : `, by ${connect}`;
    return `  ${name}: ${health}, ${baseUrl}${way}`;
  });
}

export function describeHealth(status: Outputs["health"]["status"], stream: NodeJS.WriteStream): string {
  const colors = colorsFor(stream);
  switch (status) {
    case "healthy":
      return colors.green(status);
    case "degraded":
      return colors.yellow(status);
    case "failed":
      return colors.red(status);
    default:
      throw new Error(`unknown status ${JSON.stringify(status satisfies never)}`);
  }
}

function describeShape(plan: Outputs["plan"]): string {
  if (plan.device === "cpu") return "on the CPU";
  return `tensor parallel ${plan.tensorParallel} × ${plan.replicas} replica${plan.replicas === 1 ? "" : "s"} on ${plan.gpus.length} GPU${plan.gpus.length === 1 ? "" : "s"}`;
}

/** How the user can call this command from here: its name if a shell finds it, else its path. */
function ownCommand(): string {
  const isOnPath = (process.env["PATH"] ?? "").split(delimiter).some((folder) => existsSync(join(folder, "tandem")));
  if (isOnPath) return "tandem";
  const path = join(packageRoot(), "bin", "tandem");
  const fromHere = relative(process.cwd(), path);
  return fromHere.startsWith("..") ? path : fromHere;
}

function renderUse({ endpoints, plan }: Outputs, environmentName: string): string[] {
  const tandem = ownCommand();
  const flag = environmentName === "local" ? "" : ` --env ${environmentName}`;
  const { connect } = endpoints;
  return [
    ...(connect === undefined ? [] : ["Open the way to it, and leave it open:", `  ${connect}`]),
    "Ask it:",
    `  eval "$(${tandem} outputs${flag} --env-vars)"`,
    `  curl -s "$TANDEM_BASE_URL/chat/completions" -H "Authorization: Bearer $TANDEM_API_KEY" -H 'Content-Type: application/json' \\`,
    `    -d '{"model": "${plan.servedModelName}", "messages": [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}], "temperature": 0}'`,
    `Then: ${tandem} status${flag}, ${tandem} logs${flag} -f, ${tandem} destroy${flag}`,
  ];
}

function signed(percent: number): string {
  return `${percent >= 0 ? "+" : "−"}${Math.abs(percent).toFixed(1)}`;
}
