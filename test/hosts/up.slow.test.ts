import { afterAll, beforeAll, expect, it } from "vitest";
import { expectConforms } from "../conformance/conforms";
import { describeOnHosts, startHosts, type Fleet } from "../fixtures/hosts/hosts";
import { Deployment, SUPPLIES_ON_HOST, tracesOn } from "./deployment";

const NAMES = ["h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8"];

describeOnHosts("one `up` on eight bare hosts", () => {
  const deployment = new Deployment("eight");
  let fleet: Fleet;

  beforeAll(async () => {
    fleet = await startHosts(NAMES, { diskGiB: 8, mounts: { [SUPPLIES_ON_HOST]: deployment.supplies } });
    await Promise.all(fleet.hosts.map((host) => host.exec("touch /srv/taken")));
  });
  afterAll(async () => {
    await fleet?.close();
    deployment.remove();
  });

  function configure(count: number): void {
    deployment.configure(NAMES.slice(0, count).map((name) => fleet.host(name).access()));
  }

  it("takes seven of them from nothing to a proven service", async () => {
    configure(7);
    const { outputs, changes, seconds } = await deployment.ask(["up"]);
    console.log(`up of 7 bare hosts: ${seconds.toFixed(1)} s`);
    expect(outputs.hosts.map(({ name, health }) => [name, health])).toEqual(
      NAMES.slice(0, 7).map((name) => [name, "healthy"]),
    );
    expectConforms(outputs, { target: "ssh", model: `${SUPPLIES_ON_HOST}/model`, tensorParallel: 1, hosts: 7 });
    expect(outputs.endpoints.connect).toMatch(/^ssh -N -L 8000:127\.0\.0\.1:8000 /);
    expect(new Set(changes.map(({ action }) => action))).toEqual(new Set(["create"]));
  });

  it("changes only the eighth when it is added", async () => {
    configure(8);
    const { changes } = await deployment.ask(["up"]);
    expect(changes.filter(({ step }) => !step.startsWith("h8-"))).toEqual([]);
    expect(changes.length).toBeGreaterThan(3);
  });

  it("touches nothing the next time", async () => {
    const { changes, seconds } = await deployment.ask(["up"]);
    console.log(`second up of 8 hosts: ${seconds.toFixed(1)} s`);
    expect(changes).toEqual([]);
  });

  it("shows a stopped unit in the preview, repairs it and is quiet again", async () => {
    await fleet.host("h3").exec("systemctl stop 'tandem-eight-serving.service'");
    const { changes } = await deployment.ask(["preview"]);
    expect(changes).toEqual(
      [expect.objectContaining({ step: "h3-serving", reason: expect.stringContaining("not running") })].concat(
        changes.filter(({ step }) => step === "h3-proof"),
      ),
    );
    const repaired = await deployment.ask(["up"]);
    expect(repaired.changes.every(({ step }) => step.startsWith("h3-"))).toBe(true);
    expect((await deployment.ask(["up"])).changes).toEqual([]);
  });

  it("leaves alone a host that does not answer, and says so", async () => {
    await fleet.host("h5").partition();
    try {
      const run = await deployment.tandem(["preview", "--json"]);
      expect(run, run.stderr).toMatchObject({ status: 0 });
      expect(run.stderr).toContain("h5 is not checked");
      expect(JSON.parse(run.stdout)).toMatchObject({ changes: [] });
    } finally {
      await fleet.host("h5").heal();
    }
  });

  it("gives all eight back as they were", async () => {
    const run = await deployment.tandem(["destroy", "--yes"]);
    expect(run, run.stderr).toMatchObject({ status: 0 });
    for (const host of fleet.hosts) expect(await tracesOn(host), host.name).toEqual([]);
  });
});
