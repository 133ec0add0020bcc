import { spawn } from "node:child_process";
import { copyFileSync } from "node:fs";
import * as path from "node:path";
import { connect } from "node:tls";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Outputs } from "../../stacks/outputs";
import { describeOnHosts, startHosts, type Fleet, type TestHost } from "../fixtures/hosts/hosts";
import { attacks, METHODS, OTHER_ROUTES, withKey } from "../gateway/attacks";
import { writeAttacks } from "../gateway/attacks-page";
import { Deployment, SUPPLIES_ON_HOST } from "./deployment";

const PORT = 8000;
const SCRIPT = path.resolve(__dirname, "../gateway/outside.py");

describeOnHosts("a gateway on the private network, from another host", () => {
  const deployment = new Deployment("gate");
  let fleet: Fleet;
  let box: TestHost;
  let other: TestHost;
  let outputs: Outputs;

  beforeAll(async () => {
    fleet = await startHosts(["box", "other"], { diskGiB: 8, mounts: { [SUPPLIES_ON_HOST]: deployment.supplies } });
    [box, other] = [fleet.host("box"), fleet.host("other")];
    copyFileSync(SCRIPT, path.join(other.root, "root/outside.py"));
    deployment.configure([box.access()], {
      exposure: "private",
      gateway: { enabled: true, allowedCidrs: [`${other.address}/32`], keys: { default: 1, alice: 1 } },
    });
    ({ outputs } = await deployment.ask(["up"]));
    const { stdout } = await deployment.tandem(["outputs", "apiKey"]);
    outputs = { ...outputs, apiKey: stdout.trim() };
  });
  afterAll(async () => {
    await fleet?.close();
    deployment.remove();
  });

  /** Sends from the other host; the statuses that came back. */
  async function send(requests: readonly string[]): Promise<number[]> {
    const command = `python3 /root/outside.py send ${box.address} ${PORT} tls`;
    const child = spawn("ssh", [...other.sshOptions(), `root@${other.address}`, command]);
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
    child.stdin.end(requests.map((request) => `${Buffer.from(request, "latin1").toString("base64")}\n`).join(""));
    await new Promise((resolve) => child.on("close", resolve));
    return said.trim().split(" ").map(Number);
  }

  const get = (route: string, key = "") => `GET ${route} HTTP/1.1\r\nHost: x\r\n${key}Connection: close\r\n\r\n`;
  const bearer = () => `Authorization: Bearer ${outputs.apiKey}\r\n`;

  it("is the only thing that is open beside SSH", async () => {
    const open = await other.exec(`python3 /root/outside.py scan ${box.address}`, 120);
    expect(open.trim().split(" ").map(Number)).toEqual([22, PORT]);
  });

  it("answers a key over TLS with the certificate whose fingerprint is an output", async () => {
    expect(outputs.endpoints.baseUrl).toBe(`https://${box.address}:${PORT}/v1`);
    expect(await send([get("/v1/models", bearer()), get("/v1/models"), get("/health")])).toEqual([200, 401, 200]);
    const look = `python3 -c "import ssl,hashlib; print(hashlib.sha256(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(('${box.address}', ${PORT})))).hexdigest())"`;
    expect((await other.exec(look)).trim()).toBe(
      outputs.endpoints.certificateFingerprint?.replaceAll(":", "").toLowerCase(),
    );
  });

  it("closes the connection of whoever is not in its address ranges", async () => {
    const answer = await new Promise<string>((resolve) => {
      let said = "";
      const socket = connect({ host: box.address, port: PORT, rejectUnauthorized: false }, () => {
        socket.write(get("/health", bearer()));
      });
      socket.setEncoding("latin1").on("data", (text: string) => (said += text));
      // A reset or an end: either way without a word.
      socket.on("error", () => undefined);
      socket.on("close", () => {
        resolve(said);
      });
    });
    expect(answer).toBe("");
    const log = await box.exec("cat /var/lib/tandem/stacks/gate/units/gateway/log");
    expect(log).toMatch(/"status":"444"/);
  });

  it("stays closed to every attack, and the table of them has no red row", async () => {
    const tried = attacks(outputs.apiKey);
    const closed = [...OTHER_ROUTES].flatMap((route) =>
      METHODS.flatMap((method) => [
        `${method} ${route} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
        `${method} ${route} HTTP/1.1\r\n${withKey(outputs.apiKey)}Host: x\r\nConnection: close\r\n\r\n`,
      ]),
    );
    const statuses = await send([...tried.map(({ request }) => request), ...closed]);
    const rows = tried.map(({ name, closed }, index) => ({ name, allowed: closed, got: statuses[index] ?? -1 }));
    const routes = statuses.slice(tried.length);
    expect(routes).toHaveLength(closed.length);
    expect(new Set(routes)).toEqual(new Set([404]));
    expect(rows.filter(({ allowed, got }) => !allowed.includes(got))).toEqual([]);
    writeAttacks(rows, closed.length);
    const log = await box.exec("cat /var/lib/tandem/stacks/gate/units/serving/log");
    expect(log).not.toMatch(/invocations|load_lora_adapter|scale_elastic/);
  });

  it("runs as a user of its own in a sandbox, as do the others within what GPUs allow", async () => {
    const exposure = async (unit: string) => {
      const text = await box.exec(`systemd-analyze security --no-pager tandem-gate-${unit}.service | tail -n 1`);
      return Number(/ (\d+\.\d) /.exec(text)?.[1]);
    };
    console.log(`systemd-analyze security: gateway ${await exposure("gateway")}, serving ${await exposure("serving")}`);
    expect(await exposure("gateway")).toBeLessThan(5);
    expect(await exposure("serving")).toBeLessThan(8);
    const users = await box.exec("ps -C nginx -o user= | sort -u");
    expect(users.trim()).toMatch(/^tandem-/);
    expect(
      (await box.exec("systemctl is-enabled nginx.service; systemctl is-active nginx.service; :"))
        .split("\n")
        .slice(0, 2),
    ).toEqual(["masked", "inactive"]);
  });

  it("is there again after a restart of the host, with the same keys", async () => {
    await box.reboot();
    await expect
      .poll(async () => send([get("/v1/models", bearer())]), { timeout: 60_000, interval: 1000 })
      .toEqual([200]);
  });

  it("leaves neither package, account, mask nor listening port", async () => {
    const run = await deployment.tandem(["destroy", "--yes"]);
    expect(run, run.stderr).toMatchObject({ status: 0 });
    const left =
      "dpkg -l nginx 2>/dev/null | grep ^ii; getent passwd tandem-gateway; ls /dev/shm /etc/systemd/system | grep -E 'tandem|nginx'; ss -Hltn | grep -v ':22 '; :";
    expect((await box.exec(left)).trim()).toBe("");
  });
});
