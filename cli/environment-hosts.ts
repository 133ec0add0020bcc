import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { HostTarget } from "../bootstrap/runner/request";
import { hostTargets, targetName } from "../bootstrap/runner/targets";
import { writeWhole } from "../bootstrap/runner/write-whole";
import { cacheAtDestroy } from "../plan/lease-defaults";
import { nearestName } from "../plan/nearest";
import type { Settings } from "../plan/settings";
import { loadSettings } from "../stacks/config";
import type { Environment } from "./environments";
import { CommandError, EXIT } from "./exit";
import { SettingsFile } from "./settings-file";

/** Notes which hosts a run is about to work on, before it does: a killed run and changed settings must not hide one. */
export function rememberHosts(environment: Environment, targets: readonly HostTarget[]): void {
  const all = union(targets, remembered(environment));
  writeWhole(hostsFile(environment), JSON.stringify(all));
}

export function forgetHosts(environment: Environment): void {
  rmSync(hostsFile(environment), { force: true });
}

/**
 * Every host that the environment is on or may be on: those of its settings, and those that a run has worked on before.
 * Settings that can't be read take nothing away.
 */
export function environmentTargets(environment: Environment): HostTarget[] {
  const { settings, hosts } = configured(environment);
  const target = settings?.target;
  const all = union(hosts, remembered(environment));
  return all.length === 0 && target !== "ec2" && target !== "kubernetes" ? [{ kind: "local" }] : all;
}

/** The regions of the machines that runs have worked on. */
export function rememberedRegions(environment: Environment): string[] {
  return remembered(environment).flatMap((target) => (target.kind === "ssh" ? (target.instance?.region ?? []) : []));
}

/** A rented machine ends with its launch: nothing is taken back on it. */
export function isRented(target: HostTarget): boolean {
  return target.kind === "ssh" && target.instance !== undefined;
}

/**
 * The host with this name; without one the environment's only host.
 * @throws CommandError when there is no such host, or several and none was named
 */
export function chooseTarget(targets: readonly HostTarget[], wanted: string | undefined): HostTarget {
  const names = targets.map(targetName);
  const [only, ...more] = targets;
  if (wanted === undefined && only !== undefined && more.length === 0) return only;
  const found = targets.find((target) => targetName(target) === wanted);
  if (found !== undefined) return found;
  const what = wanted === undefined ? "there are several hosts, name one" : `no host of this name — got ${wanted}`;
  const near = nearestName(wanted ?? "", names) ?? names[0] ?? "";
  throw new CommandError(`--host: ${what} — allowed: ${names.join(", ")} — fix: --host ${near}`, EXIT.usage);
}

/** Whether runtimes and weights stay on the hosts by the environment's settings. */
export function keepsCache(environment: Environment): boolean {
  const { settings } = configured(environment);
  return settings !== undefined && cacheAtDestroy(settings) === "keep";
}

function configured(environment: Environment): {
  readonly settings?: Settings;
  readonly hosts: readonly HostTarget[];
} {
  try {
    const settings = loadSettings(SettingsFile.read(environment.source.path).config());
    return { settings, hosts: hostTargets(settings) };
  } catch {
    return { hosts: [] };
  }
}

function remembered(environment: Environment): HostTarget[] {
  const path = hostsFile(environment);
  // Written by rememberHosts() alone.
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as HostTarget[]) : [];
}

/** By name; the first list wins, since a host may have got another address. */
function union(first: readonly HostTarget[], second: readonly HostTarget[]): HostTarget[] {
  const names = new Set(first.map(targetName));
  return [...first, ...second.filter((target) => !names.has(targetName(target)))];
}

function hostsFile(environment: Environment): string {
  return join(environment.folder, "hosts.json");
}
