import type { LedgerPart, Plan } from "./plan";

export interface RenderOptions {
  /** Columns of the terminal. */
  readonly width: number;
  readonly color: boolean;
}

type Paint = (code: number, text: string) => string;

const GREEN = 32;
const YELLOW = 33;
const BLUE = 34;
const MAGENTA = 35;
const DIM = 2;
const BOLD = 1;

/** A letter for each part in the bar, so that it reads without colour too. */
const LETTERS: Readonly<Record<string, string>> = {
  weights: "W",
  "adapter slots": "L",
  "KV cache": "K",
  activations: "A",
  "CUDA graphs": "G",
  "NCCL and contexts": "N",
  "LoRA gradients and optimizer": "o",
  "NCCL and context": "n",
  "room for larger batches": "r",
  "adapters and steps": "r",
};

/** A plan for people: verdict, layout with its reasons, a bar for each GPU, KV cache, start-up, disk, warnings. */
export function renderPlan(plan: Plan, options: RenderOptions): string {
  const paint: Paint = (code, text) => (options.color ? `\u001b[${code}m${text}\u001b[0m` : text);
  const lines = [
    headline(plan, paint),
    ...plan.reasons.flatMap((reason) => wrap(reason, options.width, "  because ", "          ")),
    "",
    ...memory(plan, options.width, paint),
    "",
    ...facts(plan),
    ...plan.warnings.flatMap((warning) =>
      wrap(warning, options.width, `${paint(YELLOW, "warning")} `, "        ", "warning ".length),
    ),
  ];
  return lines.join("\n");
}

function headline(plan: Plan, paint: Paint): string {
  const verdict = plan.verdict === "fits" ? paint(GREEN, "fits") : paint(YELLOW, "tight");
  const parameters =
    plan.parameters >= 1e9 ? `${(plan.parameters / 1e9).toFixed(1)} B` : `${Math.round(plan.parameters / 1e6)} M`;
  const place = plan.device === "cpu" ? "on the CPU" : `on ${plan.gpuIndices.length} x ${plan.gpuModel ?? "GPU"}`;
  const pipeline = plan.pipelineParallel > 1 ? ` x pipeline parallel ${plan.pipelineParallel}` : "";
  const replicas = plan.replicas > 1 ? ` x ${plan.replicas} replicas` : "";
  return `${verdict}  ${paint(BOLD, plan.model)} (${parameters} parameters, ${plan.dtype}) ${place}: tensor parallel ${plan.tensorParallel}${pipeline}${replicas}`;
}

function memory(plan: Plan, width: number, paint: Paint): string[] {
  const bars =
    plan.host === undefined
      ? plan.perGpu.map((ledger) => ({ label: `GPU ${ledger.index}`, totalGiB: ledger.totalGiB, parts: ledger.parts }))
      : [{ label: "memory", totalGiB: plan.host.totalGiB, parts: plan.host.parts }];
  const labelWidth = Math.max(...bars.map(({ label }) => label.length));
  const barWidth = Math.max(10, Math.min(60, width - labelWidth - 16));
  const drawn = bars.map(
    ({ label, totalGiB, parts }) =>
      `${label.padEnd(labelWidth)} [${bar(parts, totalGiB, barWidth, paint)}] ${totalGiB.toFixed(1)} GiB`,
  );
  return [...drawn, ...legend(bars[0]?.parts ?? [], width)];
}

/** Each part as long as it is large; every part that takes anything is at least one letter where there is room. */
function bar(parts: readonly LedgerPart[], totalGiB: number, width: number, paint: Paint): string {
  let position = 0;
  let soFarGiB = 0;
  return parts
    .map(({ side, name, sizeGiB }) => {
      soFarGiB += sizeGiB;
      const end = Math.min(width, Math.max(position, Math.round((soFarGiB / totalGiB) * width)));
      const text = letterOf(side, name).repeat(end - position);
      position = end;
      return text === "" ? "" : paint(colorOf(side), text);
    })
    .join("");
}

function letterOf(side: LedgerPart["side"], name: string): string {
  if (side === "free") return ".";
  const letter = LETTERS[name] ?? "P";
  return side === "training" ? letter.toLowerCase() : letter;
}

function colorOf(side: LedgerPart["side"]): number {
  switch (side) {
    case "serving":
      return BLUE;
    case "training":
      return MAGENTA;
    case "free":
      return DIM;
    default:
      return side satisfies never;
  }
}

function legend(parts: readonly LedgerPart[], width: number): string[] {
  const sides = ["serving", "training", "free"] as const;
  return sides.flatMap((side) => {
    const own = parts.filter((part) => part.side === side);
    if (own.length === 0) return [];
    const total = own.reduce((sum, { sizeGiB }) => sum + sizeGiB, 0);
    const entries = own.map(({ name, sizeGiB }) => `${letterOf(side, name)} ${name} ${sizeGiB.toFixed(2)}`);
    return wrap(entries.join("  "), width, `  ${side.padEnd(8)} ${total.toFixed(2).padStart(7)} GiB: `, " ".repeat(23));
  });
}

function facts(plan: Plan): string[] {
  const { startup, disk, cost, lora } = plan;
  const copies = plan.replicas > 1 ? " in each replica" : "";
  const price =
    cost.pricePerHourUsd === undefined
      ? []
      : [
          `cost      ${cost.pricePerHourUsd} US dollars an hour${cost.capUsd === undefined ? "" : `, ${cost.capUsd} at most`}`,
        ];
  return [
    `KV cache  ${plan.kvCacheTokens} tokens${copies}, ${plan.maxModelLen} a request`,
    `adapters  ${lora.enabled ? `${lora.maxAdapters} at once, rank ${lora.maxRank} at most` : "off"}`,
    `training  ${plan.training.backend === "off" ? "off" : `${plan.training.backend}, tensor parallel ${plan.training.tensorParallel}`}`,
    `start-up  about ${startup.expectedSeconds} s, given up after ${startup.timeoutSeconds} s`,
    `disk      ${disk.totalGiB} GiB (runtime ${disk.runtimeGiB}, weights ${disk.weightsGiB}${trainerDisk(disk)})`,
    ...price,
  ];
}

function trainerDisk({ trainerGiB, checkpointsGiB }: Plan["disk"]): string {
  if (checkpointsGiB === 0) return "";
  return `, trainer ${trainerGiB}, ten users' checkpoints ${checkpointsGiB}`;
}

/** Breaks a text into lines that fit, at spaces. */
function wrap(text: string, width: number, first: string, rest: string, firstWidth = first.length): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    const room = width - (lines.length === 0 ? firstWidth : rest.length);
    if (line !== "" && line.length + 1 + word.length > room) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line].map((content, index) => `${index === 0 ? first : rest}${content}`);
}
