import { expect } from "vitest";
import type { TestHost } from "./host";

export { SHARED_CACHE } from "../fixtures/shared-cache";

export const VLLM_VERSION = "0.32.0";

export interface RuntimeResult {
  readonly python: string;
  readonly vllmVersion: string;
  readonly device: string;
  readonly flags: readonly string[];
  readonly path: string;
  readonly bytes: number;
}

/** Applies the runtime step: installs vLLM for the CPU, or finds it installed. */
export async function applyRuntime(host: TestHost): Promise<RuntimeResult> {
  const document = { kind: "venv", device: "cpu", vllmVersion: VLLM_VERSION };
  const answer = await host.run(["apply", "runtime"], { document, values: { TANDEM_REPAIR: "#r" } });
  expect(answer, answer.stderr).toMatchObject({ code: 0 });
  return JSON.parse(answer.stdout) as RuntimeResult;
}
