import { execFileSync } from "node:child_process";
import { symlinkSync } from "node:fs";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { freePort } from "../fixtures/free-port";
import { answerOf, HOST_SCRIPTS, kill, processesWith, read, TestHost, until } from "./host";

describe("a trainer that does not come up", () => {
  let host: TestHost;
  beforeEach(() => {
    host = new TestHost();
    symlinkSync(path.join(HOST_SCRIPTS, "../trainer"), path.join(host.root, "trainer"));
  });
  afterEach(() => host.close());

  const status = () => read(path.join(host.stackDir, "units/training/status.json"));

  it("is not waited for once its whole unit was killed", async () => {
    const python = execFileSync("python3", ["-c", "import sys; print(sys.executable)"], { encoding: "utf8" }).trim();
    const argv = [python, "-c", "import time; time.sleep(600)", "{state}", "{adapters}", "{package}"];
    const document = { argv, env: {}, port: await freePort(), startupSeconds: 40, stopSeconds: 1 };
    const answer = answerOf(host.start(["apply", "training"], { document, secrets: { apiKey: "key" } }));
    await until("it runs", () => status() !== "", 30);
    kill((JSON.parse(status()) as { supervisorPid: number }).supervisorPid);
    expect(await answer).toMatchObject({
      code: 36,
      stderr: expect.stringContaining("the trainer ended before it was ready") as string,
    });
    expect(processesWith(`${host.stackDir}/training`)).toEqual([]);
  });
});
