import { EC2Client } from "@aws-sdk/client-ec2";
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { findSurvivors } from "../../bootstrap/cloud/survivors";
import { runTags } from "../../plan/run-tags";
import { type Aws, startAws } from "../fixtures/aws/aws";
import { makeSmallStack, markOf } from "./stack-in-cloud";

const root = path.resolve(__dirname, "../..");
const STACK = "lost";

let aws: Aws;
let ec2: EC2Client;
let folder: string;
beforeAll(async () => {
  aws = await startAws();
  Object.assign(process.env, aws.env);
  ec2 = new EC2Client({});
  folder = mkdtempSync(path.join(tmpdir(), "tandem-destroy-"));
});
afterAll(async () => {
  ec2.destroy();
  await aws.close();
  rmSync(folder, { recursive: true, force: true });
});

/** `tandem destroy` of an environment whose state is lost: only the cloud knows of it, so no engine is started. */
function destroy(owner: string): Promise<{ code: number; stderr: string }> {
  const ec2Settings = { region: "us-east-1", allowedCidr: "203.0.113.7/32", instanceTypes: "g6.12xlarge", owner };
  const file = path.join(folder, `Pulumi.${STACK}.yaml`);
  writeFileSync(file, stringify({ config: { "tandem:target": "ec2", "tandem:ec2": ec2Settings } }));
  const loader = path.join(root, "node_modules/tsx/dist/loader.mjs");
  const argv = ["--import", loader, path.join(root, "cli/main.ts"), "destroy", "--env", file, "--yes"];
  const env = { ...process.env, TANDEM_HOME: path.join(folder, "home") };
  return new Promise((resolve) => {
    execFile(process.execPath, argv, { env, timeout: 50_000 }, (error, _stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code ?? 255), stderr }),
    );
  });
}

describe("tandem destroy in the cloud", () => {
  it(
    "says that nobody knows while the API is down, leaves another owner's things, and takes its own away later, with the key",
    { timeout: 150_000 },
    async () => {
      await makeSmallStack(ec2, runTags(markOf(STACK, { owner: "ada@laptop" })));
      const key = path.join(folder, "home/keys", STACK);
      mkdirSync(path.dirname(key), { recursive: true });
      writeFileSync(key, "private");

      await aws.faults([{ action: "*", down: true }]);
      const down = await destroy("ada@laptop");
      expect(down.code, down.stderr).toBe(1);
      expect(down.stderr).toMatch(
        /nobody knows whether something of .*lost is left in us-east-1: .* — fix: run it again/s,
      );
      expect(existsSync(key)).toBe(true);

      await aws.faults([]);
      const others = await destroy("bob@desk");
      expect(others.code, others.stderr).toBe(1);
      expect(others.stderr).toContain("if that is you as well, set `ec2.owner` to ada@laptop");
      expect(await findSurvivors(["us-east-1"], STACK)).not.toEqual([]);

      const own = await destroy("ada@laptop");
      expect(own.code, own.stderr).toBe(0);
      expect(await findSurvivors(["us-east-1"], STACK)).toEqual([]);
      expect(existsSync(key)).toBe(false);
    },
  );
});
