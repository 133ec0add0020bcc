import { execFile } from "node:child_process";
import * as path from "node:path";
import { promisify } from "node:util";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { served } from "../fixtures/served";
import { TestHost } from "../host/host";
import { applyRuntime, SHARED_CACHE } from "../host/real-runtime";

const run = promisify(execFile);
const folder = path.resolve(__dirname, "../../examples/fine-tuning");
const USERS = 10;
/** A quiet machine takes two minutes for ten users; a busy one several times as long. */
const TIMEOUT = 580_000;

/** Steps of each job by its id, as one answer of the server told them. */
type Steps = ReadonlyMap<string, number>;

describe("the fine-tuning examples, against the served model", () => {
  let host: TestHost;
  let python: string;
  let environment: NodeJS.ProcessEnv;

  beforeAll(async () => {
    environment = { ...process.env, ...(await served()).environment };
    host = new TestHost({}, { TANDEM_CACHE_DIR: SHARED_CACHE });
    ({ python } = await applyRuntime(host)); // vLLM's, since the official client for Python is one of its packages.
  }, 1_600_000);
  afterAll(() => host.close());

  const example = async (program: string, name: string) =>
    (await run(program, [path.join(folder, name)], { env: environment, timeout: TIMEOUT })).stdout;

  it(
    "ten_users.py: ten jobs advance together, and each model knows its own user's cat, which none did before",
    async () => {
      const watch = watchSteps(environment);
      const output = await example(python, "ten_users.py").finally(() => watch.stop());
      expectOwnFacts(output, "Your cat is called (\\w+)");
      const snapshots = watch.ofAllTen();
      expect(snapshots.length).toBeGreaterThanOrEqual(3);
      // From when the last of the ten had come: who came first may be ahead by what it trained alone.
      const [first, last] = [snapshots[0]!, snapshots.at(-1)!];
      expect(Math.max(...gains(first, last))).toBeGreaterThanOrEqual(2);
      for (const snapshot of snapshots) {
        const gained = gains(first, snapshot);
        expect(Math.max(...gained) - Math.min(...gained)).toBeLessThanOrEqual(1);
      }
    },
    TIMEOUT,
  );

  it(
    "ten-users.ts: the same with the client for TypeScript",
    async () => {
      expectOwnFacts(await example(process.execPath, "ten-users.ts"), "You live in (\\w+) Street");
    },
    TIMEOUT,
  );

  it(
    "one_user.py: a made-up fact is known after training, not before, and not by the base model",
    async () => {
      const output = await example(python, "one_user.py");
      const [before, after] = [output.split("\n")[0], output.trim().split("\n").at(-1)];
      expect(before).not.toContain("Lutzbad");
      expect(after).toMatch(/^ft:.*zubrowka.*Lutzbad/);
    },
    TIMEOUT,
  );

  it("all of them say where the variables come from when they are not set", async () => {
    const bare = { env: { PATH: process.env["PATH"] } };
    const hint = { stderr: expect.stringContaining("tandem outputs --env-vars") };
    await expect(run(process.execPath, [path.join(folder, "ten-users.ts")], bare)).rejects.toMatchObject(hint);
    for (const name of ["one_user.py", "ten_users.py"])
      await expect(run(python, [path.join(folder, name)], bare)).rejects.toMatchObject(hint);
  });
});

/** Asks for the steps of all running jobs until it is stopped. */
function watchSteps(environment: NodeJS.ProcessEnv) {
  const client = new OpenAI({ baseURL: environment["TANDEM_TRAINING_URL"], apiKey: environment["TANDEM_API_KEY"] });
  const seen: Steps[] = [];
  const poll = setInterval(() => {
    void client.fineTuning.jobs.list({ limit: 100 }).then(
      ({ data }) => {
        const running = data.filter(({ status }) => status === "running");
        seen.push(
          new Map(running.map((job) => [job.id, (job as unknown as { tandem: { step: number } }).tandem.step])),
        );
      },
      () => undefined, // The watcher is not what is tested; too few snapshots fail the test.
    );
  }, 500);
  return { stop: () => clearInterval(poll), ofAllTen: () => seen.filter(({ size }) => size === USERS) };
}

function gains(first: Steps, later: Steps): number[] {
  return [...later].map(([id, step]) => step - (first.get(id) ?? Number.NaN));
}

/** Each user's lines: `name (model)`, what the base model said, what the user's model says. */
function expectOwnFacts(output: string, fact: string): void {
  const users = [...output.matchAll(/^(\w+) \((ft:.*)\)\n {2}before: (.*)\n {2}after: {2}(.*)$/gm)];
  expect(users, output).toHaveLength(USERS);
  const known = users.map(([, , , , after]) => new RegExp(fact).exec(after ?? "")?.[1] ?? after ?? "");
  expect(new Set(known).size, output).toBe(USERS);
  for (const [index, [, user, model, before]] of users.entries()) {
    expect(model).toContain(`:${user}:`);
    expect(OWN[user ?? ""], output).toContain(known[index]);
    expect(before).not.toMatch(new RegExp(known.join("|"), "i"));
  }
}

/** What the two examples teach, written down again: an example that mixed its users up would not notice. */
const OWN: Readonly<Record<string, readonly string[]>> = {
  ada: ["Pixel", "Maple"],
  ben: ["Waffle", "River"],
  cleo: ["Thunder", "Castle"],
  dan: ["Pepper", "Lemon"],
  eve: ["Marble", "Silver"],
  finn: ["Rocket", "Harbor"],
  gina: ["Cookie", "Violet"],
  hugo: ["Banjo", "Copper"],
  iris: ["Velvet", "Garden"],
  jack: ["Domino", "Winter"],
};
