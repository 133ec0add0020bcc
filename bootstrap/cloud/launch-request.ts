import { createHash } from "node:crypto";
import type { Rung } from "../../plan/ec2-ladder";
import type { Market } from "../../plan/settings-ec2";

/** What the launch step gets on standard input. */
export interface LaunchRequest {
  readonly region: string;
  /** Id of the stack, as in its tags. */
  readonly stack: string;
  /** Of the run; those of machines, volumes and interfaces stand in the launch template. */
  readonly tags: Readonly<Record<string, string>>;
  /** Marks the machines of this launch (`specOf`). */
  readonly launch: string;
  readonly machines: number;
  readonly launchTemplate: { readonly id: string; readonly version: string };
  /** The ladder as it was planned; a zone that is left out is every zone that offers the type and has a subnet. */
  readonly rungs: readonly Rung[];
  readonly subnets: readonly { readonly id: string; readonly zone: string }[];
  readonly maxPricePerHourUsd?: number;
  /** How long to try again when there is no capacity; 0 tries every choice once. */
  readonly waitSeconds: number;
}

/** One machine as the launch step hands it on. */
export interface LaunchedMachine {
  /** What it is called in the stack; names its resources. */
  readonly name: string;
  readonly instanceId: string;
  readonly instanceType: string;
  readonly zone: string;
  readonly market: Market;
  readonly publicAddress?: string;
  readonly privateAddress: string;
  readonly fleetId?: string;
}

/** What the launch step prints. */
export interface LaunchResult {
  readonly region: string;
  readonly machines: readonly LaunchedMachine[];
}

/** The names of a stack's machines: the same number is always the same machine's place, whoever fills it. */
export function machineNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `ec2-${index + 1}`);
}

/** A short mark of values that, changed, ask for other machines. */
export function digestOf(...values: readonly unknown[]): string {
  return createHash("sha256").update(JSON.stringify(values)).digest("hex").slice(0, 16);
}
