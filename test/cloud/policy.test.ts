import { readdirSync, readFileSync } from "node:fs";
import * as path from "node:path";
import { describe, expect, it } from "vitest";
import { allowedActions } from "./policy";

const root = path.resolve(__dirname, "../..");

/** What Pulumi's provider for AWS reads, refreshes or waits for beside what the tests' own plugin calls; from its documentation. */
const OF_THE_REAL_PROVIDER = [
  "ec2:DescribeInstanceAttribute",
  "ec2:DescribeKeyPairs",
  "ec2:DescribeLaunchTemplateVersions",
  "ec2:DescribeLaunchTemplates",
  "ec2:DescribeNetworkInterfaces",
  "ec2:DescribeSecurityGroupRules",
  "ec2:DescribeSecurityGroups",
  "ec2:DescribeVpcAttribute",
  "ec2:DescribeVpcs",
];
/** Asked for by EC2 in the name of whoever creates a fleet. */
const ON_BEHALF = ["ec2:RunInstances", "iam:CreateServiceLinkedRole"];

/** Calls of the AWS SDK in source files, by IAM's names. */
function callsIn(...files: readonly string[]): Set<string> {
  const text = files.map((file) => readFileSync(file, "utf8")).join("\n");
  const imports = text.match(/import \{[^}]*\} from "@aws-sdk\/client-[\w-]+"/g) ?? [];
  return new Set(
    imports.flatMap((statement) => {
      const service = /client-([\w-]+)"$/.exec(statement)?.[1] ?? "";
      const iam = { "service-quotas": "servicequotas", "resource-groups-tagging-api": "tag" }[service] ?? service;
      const names = statement.matchAll(/\b(?:paginate(\w+)|(\w+)Command)\b/g);
      return [...names].map(([, paged, called]) => `${iam}:${paged ?? called ?? ""}`);
    }),
  );
}

describe("the policy for AWS", () => {
  const cloud = path.join(root, "bootstrap/cloud");
  const ours = callsIn(...readdirSync(cloud).map((name) => path.join(cloud, name)));
  const pulumis = callsIn(path.join(root, "test/fixtures/ec2/resources.ts"));

  it("allows every call that our code and the resources in use make, and no other", () => {
    const needed = new Set([...ours, ...pulumis, ...OF_THE_REAL_PROVIDER, ...ON_BEHALF]);
    expect([...allowedActions("policy.json")].toSorted()).toEqual([...needed].toSorted());
  });

  it("of the sweeper is a part of it", () => {
    const all = allowedActions("policy.json");
    expect([...allowedActions("policy-reap.json")].filter((action) => !all.has(action))).toEqual([]);
  });
});
