import { writeFileSync } from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { userData } from "../../bootstrap/cloud/user-data";
import { describeOnHosts, type Fleet, startHosts } from "../fixtures/hosts/hosts";
import { Deployment, SUPPLIES_ON_HOST } from "./deployment";

describeOnHosts("a limited time on real machines", () => {
  const deployment = new Deployment("limited");
  let fleet: Fleet;

  beforeAll(async () => {
    fleet = await startHosts(["own", "rented"], { mounts: { [SUPPLIES_ON_HOST]: deployment.supplies }, diskGiB: 8 });
  });
  afterAll(async () => {
    await fleet?.close();
    deployment.remove();
  });

  it(
    "a rented machine arms its timer by user data, keeps it over a restart, and ends itself though its clock was set back",
    { timeout: 300_000 },
    async () => {
      const rented = fleet.host("rented");
      const now = Date.now();
      const text = userData({ createdAt: new Date(now), expiresAt: new Date(now + 3_600_000) });
      writeFileSync(path.join(rented.root, "root/user-data"), text);
      await rented.exec("sh /root/user-data");
      const timer = "systemctl is-enabled tandem-expiry.timer; systemctl is-active tandem-expiry.timer";
      const armed = () => rented.tryExec(timer).then(({ stdout }) => stdout.trim());
      await expect.poll(armed, { timeout: 10_000 }).toBe("enabled\nactive");
      await rented.reboot();
      await expect.poll(armed, { timeout: 10_000 }).toBe("enabled\nactive");
      await expect
        .poll(() => rented.tryExec("cat /var/lib/tandem-expiry/used").then(({ stdout }) => stdout), { timeout: 40_000 })
        .toMatch(/^[0-9a-f-]{36} \d+ \d+\s*$/);
      // The hour has passed by the kernel's clock, while the machine's own says that it is yesterday.
      await rented.skewClock(-86_400);
      await rented.exec("echo 1 >/var/lib/tandem-expiry/lifetime");
      await expect
        .poll(
          () =>
            rented.tryExec("true").then(
              ({ status }) => status,
              () => -1,
            ),
          { timeout: 150_000, interval: 1000 },
        )
        .not.toBe(0);
      await fleet.remove("rented");
    },
  );

  it("a stack on a host ends itself by the host's own timer, after it was extended", { timeout: 280_000 }, async () => {
    const own = fleet.host("own");
    deployment.configure([own.access()], { training: { backend: "off" }, ttl: "1h" });
    const { outputs } = await deployment.ask(["up"]);
    const left = Date.parse(outputs.cost.expiresAt ?? "") - Date.now();
    expect(left).toBeGreaterThan(3_300_000);
    expect(left).toBeLessThan(3_700_000);
    const extended = await deployment.tandem(["extend", "--ttl", "2h", "--json"]);
    expect(extended, extended.stderr).toMatchObject({ status: 0 });
    const { ends } = JSON.parse(extended.stdout) as { ends: { where: string; expiresAt: string }[] };
    expect(ends).toHaveLength(1);
    expect(Date.parse(ends[0]?.expiresAt ?? "") - Date.now()).toBeGreaterThan(7_000_000);
    expect((await deployment.ask(["up"])).changes).toEqual([]);

    await own.exec("date +%s >/var/lib/tandem/stacks/limited/expiry/expires");
    await expect
      .poll(() => own.tryExec("test -e /var/lib/tandem").then(({ status }) => status), {
        timeout: 150_000,
        interval: 1000,
      })
      .toBe(1);
    expect(await own.exec("ls /etc/systemd/system | grep tandem || true")).toBe("");
    expect(await own.exec("systemctl list-units --all --plain --no-legend 'tandem-*' | grep -v expiry || true")).toBe(
      "",
    );
    const destroyed = await deployment.tandem(["destroy", "--yes"]);
    expect(destroyed, destroyed.stderr).toMatchObject({ status: 0 });
  });

  it("an ephemeral environment on a host is reached through a tunnel, and gives the host back", async () => {
    const own = fleet.host("own");
    const ask = 'curl -sf "$TANDEM_BASE_URL/models" -H "Authorization: Bearer $TANDEM_API_KEY"; exit 9';
    const run = await deployment.tandem(["ephemeral", "--ttl", "20m", "--", "sh", "-c", ask]);
    expect(run, run.stderr).toMatchObject({ status: 9 });
    expect(run.stdout).toContain('"object": "list"');
    expect(await own.tryExec("test -e /var/lib/tandem")).toMatchObject({ status: 1 });
  });
});
