import * as fs from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { abandonedRuns, makeRun } from "../../cli/ephemeral/run";
import { openHome, type Home } from "../../cli/home";

vi.mock("node:fs", async (importOriginal) => {
  const real = await importOriginal<typeof fs>();
  return { ...real, writeFileSync: vi.fn(real.writeFileSync) };
});

let folder: string;
let home: Home;
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(tmpdir(), "tandem-runs-"));
  home = openHome({ TANDEM_HOME: path.join(folder, "home") });
});
afterEach(() => fs.rmSync(folder, { recursive: true, force: true }));

const make = async () => {
  const settings = path.join(folder, "Pulumi.probe.yaml");
  fs.writeFileSync(settings, "config:\n  tandem:target: local\n");
  return makeRun(home, settings, [], "5m");
};

describe("a run of tandem ephemeral", () => {
  it("is abandoned for nobody while it is made, at no moment", async () => {
    const seen: unknown[] = [];
    const write = vi.mocked(fs.writeFileSync);
    const real = write.getMockImplementation();
    write.mockImplementation((...argv) => {
      seen.push(abandonedRuns(home));
      real?.(...argv);
    });
    const { folder: run } = await make().finally(() => write.mockImplementation(real ?? (() => undefined)));
    expect(seen.length).toBeGreaterThan(2);
    expect(seen.flat()).toEqual([]);
    expect(fs.existsSync(path.join(run, "owner"))).toBe(true);
  });

  it("is abandoned once its process is dead", async () => {
    const run = await make();
    expect(abandonedRuns(home)).toEqual([]);
    // The highest number that Linux gives a process is 2^22.
    fs.writeFileSync(path.join(run.folder, "owner"), JSON.stringify({ processId: 2 ** 22 + 1, startTicks: "1" }));
    expect(abandonedRuns(home)).toEqual([run]);
  });
});
