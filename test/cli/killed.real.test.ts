import { spawn } from "node:child_process";
import { cpSync } from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../fixtures/free-port";
import { markedProcesses } from "../setup/leftovers";
import { TandemHome } from "./fixtures/tandem";

const root = path.resolve(__dirname, "../..");
const STACK = "test-killed";
/** The runtime may have to be installed first. */
const START_TIMEOUT_MILLISECONDS = 900_000;

describe("a client that is ended in the middle of up", () => {
  const tandem = new TandemHome();
  const settings = path.join(tandem.folder, `Pulumi.${STACK}.yaml`);
  let port = 0;

  beforeAll(async () => {
    cpSync(path.join(root, "stacks/Pulumi.ci.yaml"), settings);
    port = await freePort();
  });
  afterAll(() => {
    tandem.run(["destroy", "--env", STACK, "--yes"]);
    tandem.remove();
  });

  const left = () => markedProcesses().filter(({ owner }) => owner?.startsWith(`${STACK}/`) === true);

  /** Starts `up` and signals it while vLLM loads. @returns its exit status, null when the signal ended it */
  async function endWhileLoading(signal: NodeJS.Signals): Promise<number | null> {
    const up = spawn(path.join(root, "bin/tandem"), ["up", "--env", settings, "--port", String(port), "--yes"], {
      env: { ...process.env, TANDEM_HOME: tandem.home },
      stdio: ["ignore", "ignore", "pipe"],
    });
    const ended = new Promise<number | null>((resolve) => up.on("close", resolve));
    let told = "";
    for await (const text of up.stderr.setEncoding("utf8") as AsyncIterable<string>) {
      told += text;
      if (told.includes("serving: starting vLLM")) break;
    }
    const isLoading = () => left().some(({ command }) => command.includes("vllm.entrypoints"));
    while (!isLoading() && up.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 50));
    expect(isLoading()).toBe(true);
    // Leaving the loop closed the pipe, as a terminal does that is gone.
    up.kill(signal);
    return ended;
  }

  it(
    "leaves nothing behind once destroy has run after kill -9, and destroy can run again",
    { timeout: START_TIMEOUT_MILLISECONDS },
    async () => {
      expect(await endWhileLoading("SIGKILL")).toBeNull();
      const first = tandem.run(["destroy", "--env", STACK, "--yes", "--json"]);
      expect(first.stderr).toContain("was killed: its lock is cleared");
      expect(JSON.parse(first.stdout)).toMatchObject({ ok: true, destroyed: true });
      expect(left()).toEqual([]);
      const second = tandem.run(["destroy", "--env", STACK, "--yes", "--json"]);
      expect(JSON.parse(second.stdout)).toMatchObject({ ok: true, destroyed: false });
    },
  );

  it(
    "leaves no process after Ctrl-C, not even a half-started vLLM",
    { timeout: START_TIMEOUT_MILLISECONDS },
    async () => {
      expect(await endWhileLoading("SIGINT")).toBe(130);
      expect(left()).toEqual([]);
    },
  );
});
