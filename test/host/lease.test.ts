import { unlinkSync } from "node:fs";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { TestHost } from "./host";

let host: TestHost;
beforeEach(() => {
  host = new TestHost();
});
afterEach(() => host.close());

describe("the lease", () => {
  it("takes the host once: a second apply changes nothing", async () => {
    const first = await host.run(["apply", "lease"], { values: { TANDEM_REPAIR: "#1" } });
    expect(JSON.parse(first.stdout)).toEqual({
      leaseId: expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
      hostDir: host.hostDir,
      cacheDir: host.environment["TANDEM_CACHE_DIR"],
      createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/) as string,
    });
    expect((await host.run(["apply", "lease"])).stdout).toBe(first.stdout);
  });

  it("that was removed by hand does not hold", async () => {
    await host.run(["apply", "lease"], { values: { TANDEM_REPAIR: "#1" } });
    unlinkSync(path.join(host.stackDir, "lease.json"));
    expect(await host.check()).toEqual([
      { step: "lease", holds: false, reason: "the host is not taken for this stack", token: "#1" },
    ]);
  });

  it("of another stack is no conflict, unless this one wants the host for itself", async () => {
    await host.run(["apply", "lease"], { values: { TANDEM_CLIENT: "ada@laptop" } });
    host.environment["TANDEM_STACK"] = "other";
    const refused = await host.run(["apply", "lease"], { document: { exclusive: true } });
    expect(refused.code).toBe(30);
    expect(refused.stderr).toMatch(
      /^this host is taken by the stack unit-test, since \S+, by ada@laptop — fix: destroy/,
    );
    expect((await host.run(["apply", "lease"])).code).toBe(0);
    await host.run(["sweep"]);
    host.environment["TANDEM_STACK"] = host.stack;
  });

  it("of one stack is never found in another that bears its name elsewhere", async () => {
    const twin = new TestHost();
    try {
      await host.run(["apply", "lease"]);
      expect(await twin.check()).toEqual([]);
      expect((await twin.run(["sweep"])).code).toBe(0);
      expect(await host.check()).toMatchObject([{ holds: true }]);
    } finally {
      await twin.close();
    }
  });
});
