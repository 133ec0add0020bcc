import { beforeAll, describe, expect, it } from "vitest";
import type { Outputs } from "../../stacks/outputs";
import { expectConforms } from "../conformance/conforms";
import { served, type Served } from "../fixtures/served";

/** Of stacks/Pulumi.ci.yaml. */
const MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct";

interface Document {
  readonly [field: string]: unknown;
}

describe("tandem on a served model", () => {
  let stack: Served;
  beforeAll(async () => {
    stack = await served();
  });

  const json = async (command: string, ...argv: string[]): Promise<Document> =>
    JSON.parse((await stack.tandem(command, "--json", ...argv)).stdout) as Document;
  const port = () => new URL(stack.environment["TANDEM_BASE_URL"] ?? "").port;

  it("changes nothing in a second up", async () => {
    const document = await json("up", "--yes", "--port", port());
    expect(document).toMatchObject({
      ok: true,
      changes: [],
      outputs: { health: { status: "healthy" }, apiKey: "[secret]" },
    });
  });

  it("has the outputs that every target has", async () => {
    const { outputs } = (await json("outputs")) as { outputs: Outputs };
    expectConforms(outputs, { target: "local", model: MODEL, tensorParallel: 1, hosts: 1, trains: true });
  });

  it("measures now with status, and leaves nothing to repair behind", async () => {
    const document = await json("status");
    expect(document).toMatchObject({ ok: true, status: "healthy" });
    const checks = document["checks"] as { name: string; status: string; detail: string }[];
    expect(checks.map(({ name }) => name)).toEqual(
      expect.arrayContaining(["serving", "generates", "tensor parallel size"]),
    );
    expect(await json("preview")).toMatchObject({ ok: true, changes: [] });
  });

  it("hides the key unless it is asked for", async () => {
    const key = stack.environment["TANDEM_API_KEY"] ?? "";
    expect(key).toMatch(/^tdm-/);
    const { stdout: list } = await stack.tandem("outputs");
    expect(list).not.toContain(key);
    expect(await json("outputs")).toMatchObject({ outputs: { apiKey: "[secret]" } });
    expect(await json("outputs", "--show-secrets")).toMatchObject({ outputs: { apiKey: key } });
    const { stdout: named } = await stack.tandem("outputs", "apiKey");
    expect(named).toBe(`${key}\n`);
  });

  it("gives one output by its name, and the nearest for a wrong one", async () => {
    const { stdout } = await stack.tandem("outputs", "endpoints.baseUrl");
    expect(stdout).toBe(`${stack.environment["TANDEM_BASE_URL"]}\n`);
    await expect(stack.tandem("outputs", "endpoints.baseURI")).rejects.toMatchObject({
      code: 2,
      stderr: expect.stringContaining("tandem outputs endpoints.baseUrl"),
    });
  });

  it("prints the log of the service", async () => {
    const { stdout } = await stack.tandem("logs", "serving");
    expect(stdout).toContain("Application startup complete");
  });
});
