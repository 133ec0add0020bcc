import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

const heavy = ["test/**/*.slow.test.ts", "test/**/*.real.test.ts"];
const onTestHosts = [
  "test/fixtures/hosts/*.slow.test.ts",
  "test/hosts/*.slow.test.ts",
  "test/cloud/*.slow.test.ts",
  "test/runner/ssh*.slow.test.ts",
  "test/host/{container-docker,doctor,driver,lease-hosts,training-memory,unit-systemd}.slow.test.ts",
];
/** They need programs that take long to build, which begins with the run: so they are the last. */
const onClusters = ["test/kubernetes/*.slow.test.ts"];

/** What all tests find done. Each project begins with it: Vitest's own setup of all projects comes after theirs. */
const preparations = ["test/setup/build.ts", "test/setup/aws-emulator.ts"];

const heavyOptions = {
  testTimeout: 300_000,
  hookTimeout: 1_800_000,
  // Real hosts, engines and models share two cores: one that was late is asked once more, and the report says so.
  retry: process.env["CI"] === "true" ? 1 : 0,
  globalSetup: [...preparations, "test/setup/engine.ts"],
};

/** A real node takes as long as all else on clusters together: begun last, it would run alone at the end. */
class NodeFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isNode = ({ moduleId }: TestSpecification) => moduleId.endsWith("/kubernetes/node.slow.test.ts");
    const sorted = await super.sort(files);
    return [...sorted.filter(isNode), ...sorted.filter((file) => !isNode(file))];
  }
}

/**
 * Tiers, one after the other. `fast` holds what takes milliseconds or a few seconds. The others hold what starts an engine, a
 * model, a host or a cluster (`*.slow.test.ts`, `*.real.test.ts`). What runs on test hosts or on a control plane mostly waits, and
 * each has a bridge or ports of its own, so two or three files run at a time; the rest runs alone, since one vLLM fills two cores.
 */
export default defineConfig({
  test: {
    sequence: { sequencer: NodeFirst },
    globalSetup: ["test/setup/guard.ts", "test/setup/served.ts"],
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
          globalSetup: preparations,
        },
      },
      {
        test: {
          name: "hosts",
          include: onTestHosts,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
          ...heavyOptions,
          globalSetup: [...heavyOptions.globalSetup, "test/setup/host-images.ts"],
        },
      },
      {
        test: {
          name: "full",
          include: heavy,
          exclude: [...onTestHosts, ...onClusters],
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
          ...heavyOptions,
        },
      },
      {
        test: {
          name: "clusters",
          include: onClusters,
          maxWorkers: 3,
          sequence: { groupOrder: 3 },
          ...heavyOptions,
          globalSetup: [...heavyOptions.globalSetup, "test/setup/cluster-programs.ts"],
        },
      },
    ],
  },
});
