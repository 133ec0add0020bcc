import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import * as path from "node:path";

/** What differs from a healthy GPU, by the path of the value in `nvidia-smi -q`; undefined leaves the value out. */
export type GpuOverrides = Readonly<Record<string, string | undefined>>;

/**
 * Values of a healthy H100 in the sections that the doctor reads, in the order and with the names of driver branch 550.
 * Compared with whole outputs of drivers 470 to 580 in public issues (A100, L4, A16, H100, RTX PRO 6000); what a GPU does not have is N/A.
 */
const HEALTHY: readonly (readonly [path: string, value: string])[] = [
  ["Product Name", "NVIDIA H100 80GB HBM3"],
  ["Persistence Mode", "Enabled"],
  ["MIG Mode/Current", "Disabled"],
  ["MIG Mode/Pending", "Disabled"],
  ["GPU Reset Status/Reset Required", "No"],
  ["GPU Reset Status/Drain and Reset Recommended", "No"],
  ["Clocks Event Reasons/Idle", "Active"],
  ["Clocks Event Reasons/Applications Clocks Setting", "Not Active"],
  ["Clocks Event Reasons/SW Power Cap", "Not Active"],
  ["Clocks Event Reasons/HW Slowdown", "Not Active"],
  ["Clocks Event Reasons/HW Slowdown/HW Thermal Slowdown", "Not Active"],
  ["Clocks Event Reasons/HW Slowdown/HW Power Brake Slowdown", "Not Active"],
  ["Clocks Event Reasons/Sync Boost", "Not Active"],
  ["Clocks Event Reasons/SW Thermal Slowdown", "Not Active"],
  ["Compute Mode", "Default"],
  ["ECC Mode/Current", "Enabled"],
  ["ECC Errors/Volatile/SRAM Correctable", "0"],
  ["ECC Errors/Volatile/SRAM Uncorrectable Parity", "0"],
  ["ECC Errors/Volatile/SRAM Uncorrectable SEC-DED", "0"],
  ["ECC Errors/Volatile/DRAM Correctable", "3"],
  ["ECC Errors/Volatile/DRAM Uncorrectable", "0"],
  ["ECC Errors/Aggregate/DRAM Uncorrectable", "2"],
  ["ECC Errors/Aggregate/SRAM Threshold Exceeded", "No"],
  ["Retired Pages/Pending Page Blacklist", "N/A"],
  ["Remapped Rows/Correctable Error", "0"],
  ["Remapped Rows/Uncorrectable Error", "0"],
  ["Remapped Rows/Pending", "No"],
  ["Remapped Rows/Remapping Failure Occurred", "No"],
  ["Temperature/GPU Current Temp", "39 C"],
  ["Temperature/GPU T.Limit Temp", "47 C"],
  ["Temperature/GPU Slowdown T.Limit Temp", "-2 C"],
  ["GPU Power Readings/Power Draw", "110.12 W"],
  ["GPU Power Readings/Current Power Limit", "700.00 W"],
  ["GPU Power Readings/Default Power Limit", "700.00 W"],
  ["Fabric/State", "Completed"],
  ["Fabric/Status", "Success"],
  ["Processes", "None"],
];

/** The text of `nvidia-smi -q` for these GPUs. */
export function smiQuery(gpus: readonly GpuOverrides[]): string {
  const head = [
    "",
    "==============NVSMI LOG==============",
    "",
    "Driver Version : 550.90.07",
    "",
    `Attached GPUs : ${gpus.length}`,
  ];
  const blocks = gpus.map((overrides, index) => {
    return [`GPU 00000000:0${index + 1}:00.0`, ...lines(withOverrides(overrides))].join("\n");
  });
  return `${[...head, ...blocks].join("\n")}\n`;
}

/** A new value comes after the last one of its section. */
function withOverrides(overrides: GpuOverrides): [path: string, value: string][] {
  const values = HEALTHY.map(([name, value]): [string, string | undefined] => [
    name,
    name in overrides ? overrides[name] : value,
  ]);
  for (const [name, value] of Object.entries(overrides)) {
    if (HEALTHY.some(([known]) => known === name)) continue;
    const section = name.slice(0, name.lastIndexOf("/"));
    const last = values.findLastIndex(([known]) => known.startsWith(section));
    values.splice(last < 0 ? values.length : last + 1, 0, [name, value]);
  }
  return values.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]));
}

/** Indented by four for each level; a section that has no value of its own is a line without a colon. */
function lines(values: readonly (readonly [path: string, value: string])[]): string[] {
  let before: readonly string[] = [];
  return values.flatMap(([full, value]) => {
    const names = full.split("/");
    const known = names.findIndex((name, level) => before[level] !== name);
    const sections = names
      .slice(0, -1)
      .flatMap((name, level) => (level < known ? [] : [`${"    ".repeat(level + 1)}${name}`]));
    before = names;
    const indent = "    ".repeat(names.length);
    return [...sections, `${indent}${(names.at(-1) ?? "").padEnd(42 - indent.length)}: ${value}`];
  });
}

/**
 * Puts an nvidia-smi on a PATH folder that answers `-q` with this text and anything else as `rest` (shell) says.
 * @returns the folder
 */
export function installSmi(root: string, query: string, rest = "exit 2"): string {
  const folder = path.join(root, "driver");
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "query.txt"), query);
  writeFileSync(
    path.join(folder, "nvidia-smi"),
    `#!/bin/sh\nif [ "$*" = -q ]; then cat "${folder}/query.txt"; exit; fi\n${rest}\n`,
  );
  chmodSync(path.join(folder, "nvidia-smi"), 0o755);
  return folder;
}
