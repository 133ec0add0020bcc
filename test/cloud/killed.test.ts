import { DescribeInstancesCommand, EC2Client } from "@aws-sdk/client-ec2";
import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Aws, startAws } from "../fixtures/aws/aws";
import { type KilledRun, killRuns, leakTable, REAPER } from "./killed-runs";
import { notAllowed } from "./policy";
import { makeSmallStack } from "./stack-in-cloud";
import { strangersMachine } from "./workbench";

/** `make soak` asks for more runs, and for the table in docs/leaks.md. */
const RUNS = Number(process.env["TANDEM_SOAK_RUNS"] ?? 12);
/** So many leave something before the time passes; the emulator gets slow with all 200. */
const AT_ONCE = 12;
const TABLE = process.env["TANDEM_LEAK_TABLE"];
const SEED = Number(process.env["TANDEM_SEED"] ?? Date.now() % 1_000_000);

/** The test makes a key pair; a stack hands in the public half of one. */
const MADE_BY_THE_TEST = "ec2:CreateKeyPair";

let aws: Aws;
let ec2: EC2Client;
beforeAll(async () => {
  aws = await startAws();
  Object.assign(process.env, aws.env);
  ec2 = new EC2Client({});
});
afterAll(async () => {
  ec2.destroy();
  await aws.close();
});

describe("a run that is killed with SIGKILL at any instant", () => {
  it(
    `leaves nothing after its machines' timer and the sweeper, ${RUNS} times, and nothing of others is touched`,
    { timeout: 60_000 + RUNS * 20_000 },
    async () => {
      const others = await makeSmallStack(ec2, { owner: "someone else", "tandem:stack": "theirs" });
      const stranger = await strangersMachine(ec2, "g6.12xlarge");
      const seeds = Array.from({ length: RUNS }, (_, index) => SEED + index);
      console.log(`seeds ${SEED} to ${SEED + RUNS - 1}: TANDEM_SEED=${SEED} TANDEM_SOAK_RUNS=${RUNS} repeats them`);
      const runs: KilledRun[] = [];
      for (let start = 0; start < RUNS; start += AT_ONCE) {
        runs.push(...(await killRuns(aws, seeds.slice(start, start + AT_ONCE))));
      }
      console.log(leakTable(runs));
      for (const run of runs) {
        expect(run, JSON.stringify(run)).toMatchObject({ afterTimer: { instances: 0 }, afterReap: 0 });
        if (run.action === "none")
          expect(run, JSON.stringify(run)).toMatchObject({ exitStatus: 0, before: { instances: 0, others: 0 } });
      }
      // A test in which nothing was ever left would prove nothing.
      expect(runs.some(({ before }) => before.instances > 0)).toBe(true);
      expect(runs.some(({ action }) => action !== "none")).toBe(true);
      expect(await isRunning(stranger)).toBe(true);
      expect(await isRunning(others.get("instance") ?? "")).toBe(true);
      const calls = await aws.calls();
      const ofRuns = notAllowed(
        "policy.json",
        calls.filter(({ key }) => key.startsWith("killed-")),
      );
      expect(ofRuns.filter((action) => action !== MADE_BY_THE_TEST)).toEqual([]);
      const ofReaper = calls.filter(({ key }) => key === REAPER);
      expect(notAllowed("policy-reap.json", ofReaper)).toEqual([]);
      if (TABLE !== undefined) writeTable(TABLE, runs);
    },
  );
});

async function isRunning(id: string): Promise<boolean> {
  const { Reservations = [] } = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [id] }));
  return Reservations[0]?.Instances?.[0]?.State?.Name === "running";
}

function writeTable(file: string, runs: readonly KilledRun[]): void {
  const text = readFileSync(file, "utf8");
  const [head = ""] = text.split(/^<!-- made by /m);
  const day = new Date().toISOString().slice(0, 10);
  const killed = runs.filter(({ action }) => action !== "none").length;
  const survivors = runs.reduce((sum, { afterReap }) => sum + afterReap, 0);
  const sum = `${RUNS} runs on ${day}, ${killed} of them killed, seeds ${SEED} to ${SEED + RUNS - 1}: ${survivors} survivors.`;
  writeFileSync(file, `${head}<!-- made by make soak -->\n**${sum}**\n\n${leakTable(runs)}\n`);
}
