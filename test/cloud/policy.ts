import { readFileSync } from "node:fs";
import * as path from "node:path";
import type { AwsCall } from "../fixtures/aws/aws";

/** IAM's names of services whose requests are signed with another one. */
const IAM_NAMES: Readonly<Record<string, string>> = { tagging: "tag" };

interface Policy {
  readonly Statement: readonly { readonly Action: readonly string[] }[];
}

/** The actions that a policy of examples/aws allows, under whatever conditions. */
export function allowedActions(file: "policy.json" | "policy-reap.json"): Set<string> {
  const text = readFileSync(path.join(__dirname, "../../examples/aws", file), "utf8");
  return new Set((JSON.parse(text) as Policy).Statement.flatMap(({ Action }) => Action));
}

/** The calls, by IAM's names, that a policy does not allow. */
export function notAllowed(file: "policy.json" | "policy-reap.json", calls: readonly AwsCall[]): string[] {
  const allowed = allowedActions(file);
  const made = calls.map(({ service, action }) => `${IAM_NAMES[service] ?? service}:${action}`);
  return [...new Set(made)].filter((action) => !allowed.has(action)).toSorted();
}
