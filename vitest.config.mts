import { defineConfig } from "vitest/config";

const heavy = ["test/**/*.slow.test.ts", "test/**/*.real.test.ts"];

/**
 * Two tiers. `fast` holds what takes milliseconds or a few seconds. `full` holds what starts an engine, a model or a
 * host (`*.slow.test.ts`, `*.real.test.ts`): one file at a time, after the fast ones, since one vLLM fills two cores.
 */
export default defineConfig({
  test: {
    globalSetup: ["test/setup/guard.ts", "test/setup/build.ts", "test/setup/served.ts"],
    reporters: process.env["TANDEM_TEST_REPORT"] ? ["default", "junit"] : ["default"],
    outputFile: { junit: process.env["TANDEM_TEST_REPORT"] ?? "" },
    passWithNoTests: true,
    projects: [
      {
        test: {
          name: "fast",
          include: ["test/**/*.test.ts"],
          exclude: heavy,
          testTimeout: 60_000,
          hookTimeout: 30_000,
          teardownTimeout: 20_000,
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: "full",
          include: heavy,
          testTimeout: 300_000,
          // Real hosts, engines and models share two cores: one that was late is asked once more, and the report says so.
          retry: process.env["CI"] === "true" ? 1 : 0,
          hookTimeout: 1_800_000,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
