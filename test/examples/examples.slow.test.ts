import { execFile } from "node:child_process";
import * as path from "node:path";
import { promisify } from "node:util";
import { beforeAll, describe, expect, it } from "vitest";
import { served } from "../fixtures/served";

const run = promisify(execFile);
const examples = path.resolve(__dirname, "../../examples");
const QUESTION = "What is the capital of France? Answer in one sentence.";

describe("the examples, against the served model", () => {
  let environment: NodeJS.ProcessEnv;

  beforeAll(async () => {
    environment = { ...process.env, ...(await served()).environment };
  }, 1_600_000);

  it("chat-typescript prints an answer that names Paris, with the official client", async () => {
    const program = path.join(examples, "chat-typescript/chat.ts");
    const { stdout } = await run(process.execPath, [program, QUESTION], { env: environment, timeout: 120_000 });
    expect(stdout).toContain("Paris");
  });

  it("chat-curl prints a chat completion that names Paris", async () => {
    const program = path.join(examples, "chat-curl/chat.sh");
    const { stdout } = await run("sh", [program, QUESTION], { env: environment, timeout: 120_000 });
    const completion = JSON.parse(stdout) as { model: string; choices: { message: { content: string } }[] };
    expect(completion.model).toBe(environment["TANDEM_MODEL"]);
    expect(completion.choices[0]?.message.content).toContain("Paris");
  });

  it("chat-curl passes a question with quotes and backslashes on as it is", async () => {
    const program = path.join(examples, "chat-curl/chat.sh");
    const { stdout } = await run("sh", [program, 'Say "hi" \\ twice'], { env: environment, timeout: 120_000 });
    expect(JSON.parse(stdout)).toHaveProperty("choices.0.message.content");
  });

  it("both say where the variables come from when they are not set", async () => {
    const bare = { PATH: process.env["PATH"] };
    await expect(
      run(process.execPath, [path.join(examples, "chat-typescript/chat.ts")], { env: bare }),
    ).rejects.toMatchObject({ code: 2, stderr: expect.stringContaining("tandem outputs --env-vars") });
    await expect(run("sh", [path.join(examples, "chat-curl/chat.sh")], { env: bare })).rejects.toMatchObject({
      stderr: expect.stringContaining("tandem outputs --env-vars"),
    });
  });

  it("a wrong key is refused, so the answers above needed the right one", async () => {
    const program = path.join(examples, "chat-curl/chat.sh");
    const wrong = { ...environment, TANDEM_API_KEY: "not-the-key" };
    await expect(run("sh", [program, QUESTION], { env: wrong, timeout: 30_000 })).rejects.toMatchObject({
      stderr: expect.stringContaining("401"),
    });
  });
});
