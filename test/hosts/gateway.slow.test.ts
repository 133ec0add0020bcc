import { spawn } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect as connectPlainly, type Socket } from "node:net";
import * as path from "node:path";
import { connect } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Outputs } from "../../stacks/outputs";
import { RULES } from "../../policy/rules";
import { describeOnHosts, startHosts, type Fleet, type TestHost } from "../fixtures/hosts/hosts";
import { attacks, FLOODS, METHODS, OTHER_ROUTES, withKey } from "../gateway/attacks";
import { type AttackRow, writeAttacks } from "../gateway/attacks-page";
import { Authority } from "./authority";
import { Deployment, SUPPLIES_ON_HOST } from "./deployment";

const PORT = 8000;
const DOMAIN = "llm.example.com";
const SCRIPT = path.resolve(__dirname, "../gateway/outside.py");

describeOnHosts("a gateway, from other hosts", () => {
  const deployment = new Deployment("gate");
  let fleet: Fleet;
  let box: TestHost;
  let other: TestHost;
  let far: TestHost;
  let outputs: Outputs;
  const rows: AttackRow[] = [];

  beforeAll(async () => {
    fleet = await startHosts(["box", "other", "far"], {
      diskGiB: 8,
      mounts: { [SUPPLIES_ON_HOST]: deployment.supplies, ...Authority.mounts },
    });
    [box, other, far] = [fleet.host("box"), fleet.host("other"), fleet.host("far")];
    copyFileSync(SCRIPT, path.join(other.root, "root/outside.py"));
    configure("private");
    ({ outputs } = await deployment.ask(["up"]));
    const { stdout } = await deployment.tandem(["outputs", "apiKey"]);
    outputs = { ...outputs, apiKey: stdout.trim() };
  });
  afterAll(async () => {
    await fleet?.close();
    deployment.remove();
  });

  function configure(exposure: "private" | "public", tls: object = {}): void {
    deployment.configure([box.access()], {
      exposure,
      gateway: { enabled: true, allowedCidrs: [`${other.address}/32`], keys: { default: 1, alice: 1 }, tls },
    });
  }

  /** Sends from the other host; the statuses that came back, or what else `outside.py` prints. */
  async function send(requests: readonly string[], verb = "send", more = "tls"): Promise<number[]> {
    const command = `python3 /root/outside.py ${verb} ${box.address} ${PORT} ${more}`;
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
    const answerTo = (text: string, open: (connected: () => void) => Socket) =>
      new Promise<string>((resolve) => {
        let said = "";
        const socket = open(() => socket.write(text));
        socket.setEncoding("latin1").on("data", (text: string) => (said += text));
        // A reset or an end: either way without a word.
        socket.on("error", () => undefined);
        socket.on("close", () => {
          resolve(said);
        });
      });
    const to = { host: box.address, port: PORT, rejectUnauthorized: false };
    for (const text of [get("/health", bearer()), "no HTTP at all\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"]) {
      expect(await answerTo(text, (connected) => connect(to, connected))).toBe("");
      expect(await answerTo(text, (connected) => connectPlainly(to, connected))).toBe("");
    }
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
    rows.push(...tried.map(({ name, closed }, index) => ({ name, allowed: closed, got: statuses[index] ?? -1 })));
    const routes = statuses.slice(tried.length);
    expect(routes).toHaveLength(closed.length);
    expect(new Set(routes)).toEqual(new Set([404]));
    expect(rows.filter(({ allowed, got }) => !allowed.includes(got))).toEqual([]);
    const log = await box.exec("cat /var/lib/tandem/stacks/gate/units/serving/log");
    expect(log).not.toMatch(/invocations|load_lora_adapter|scale_elastic/);
  });

  it("serves its keys beside slow clients, 2000 connections and guesses of keys", async () => {
    const good = [get("/v1/models", bearer())];
    const [besideSlow, seconds = 99] = await send(good, "slow", "200");
    const [besideHeld, held] = await send(good, "hold", "2000");
    const [besideGuesses, ...guesses] = await send(good, "guess", "100");
    console.log(
      `slow clients were cut off after ${seconds} s; ${held} connections stood; guesses: ${new Set(guesses).size} answers`,
    );
    expect({ besideSlow, besideHeld, besideGuesses, held }).toEqual({
      besideSlow: 200,
      besideHeld: 200,
      besideGuesses: 200,
      held: 2000,
    });
    expect(seconds).toBeLessThan(20);
    expect(guesses.every((status) => status === 401 || status === 429)).toBe(true);
    expect(guesses.filter((status) => status === 429).length).toBeGreaterThan(50);
    rows.push({ name: FLOODS.slow, allowed: [200], got: besideSlow ?? -1 });
    rows.push({ name: FLOODS.hold, allowed: [200], got: besideHeld ?? -1 });
    rows.push({ name: FLOODS.guess, allowed: [429], got: guesses.at(-1) ?? -1 });
    writeAttacks(rows, OTHER_ROUTES.length * METHODS.length * 2);
  }, 120_000);

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

  it("adds what a DCGM exporter says to its metrics, where one runs", async () => {
    // A fake: the form is that of the exporter's own README; none ran.
    const text = [
      "# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).",
      "# TYPE DCGM_FI_DEV_SM_CLOCK gauge",
      'DCGM_FI_DEV_SM_CLOCK{gpu="0", UUID="GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52"} 139',
    ];
    mkdirSync(path.join(box.root, "srv/dcgm"));
    writeFileSync(path.join(box.root, "srv/dcgm/metrics"), `${text.join("\n")}\n`);
    const metrics = `curl -sk -H 'Authorization: Bearer ${outputs.apiKey}' https://127.0.0.1:${PORT}/metrics`;
    expect(await box.exec(metrics)).not.toContain("DCGM_FI_");
    await box.exec("systemd-run -q --unit=dcgm python3 -m http.server -b 127.0.0.1 -d /srv/dcgm 9400");
    await expect.poll(() => box.exec(metrics), { timeout: 10_000, interval: 1100 }).toContain(text[2]);
    await box.exec("systemctl stop dcgm");
  });

  it("is there again after a restart of the host, with the same keys", async () => {
    await box.reboot();
    await expect
      .poll(async () => send([get("/v1/models", bearer())]), { timeout: 60_000, interval: 1000 })
      .toEqual([200]);
  });

  describe("on the internet, with a certificate of an ACME authority", () => {
    const acme = { mode: "acme", domain: DOMAIN, email: "ops@example.com" };
    const root = path.join(deployment.supplies, "authority.pem");
    const directoryCa = `${SUPPLIES_ON_HOST}/authority.pem`;
    let authority: Authority;
    /** As a client does that trusts the authority: status, and serial number of the certificate. */
    const ask = async (from: TestHost, route: string, key = "") => {
      const header = key === "" ? "" : `-H 'Authorization: Bearer ${key}'`;
      const options = `--cacert /root/issued.pem --resolve ${DOMAIN}:${PORT}:${box.address} -m 10`;
      const { stdout } = await from.tryExec(
        `curl -so /dev/null -w '%{http_code}' ${options} ${header} https://${DOMAIN}:${PORT}${route}`,
      );
      return Number(stdout);
    };
    const serial = () =>
      box
        .exec("openssl x509 -noout -serial -in $(ls -d /dev/shm/tandem-gateway-*)/tls.crt")
        .then((text) => text.trim());
    const renewal = "tandem-gate-gateway-renew";
    const makeDue = "sed -i 's/^[0-9]* /1 /' /var/lib/tandem/stacks/gate/units/gateway/tls.times";

    beforeAll(async () => {
      authority = await Authority.start(other, root);
      await Promise.all([other, far].map((host) => authority.keepRoot("/root/issued.pem").then(() => host)));
      copyFileSync(path.join(other.root, "root/issued.pem"), path.join(far.root, "root/issued.pem"));
    });

    it("says why there is none when the name leads elsewhere, and serves on as before", async () => {
      await authority.point(DOMAIN, far.address);
      configure("public", { ...acme, directory: authority.directory, directoryCa });
      const run = await deployment.tandem(["up", "--yes"]);
      expect(run.status).toBe(1);
      expect(run.stderr).toMatch(
        /no certificate for llm\.example\.com: .*refused.* — fix: port 80 of this host must be open/,
      );
      expect(await send([get("/v1/models", bearer())])).toEqual([200]);
    });

    it("lets its address range in over TLS that others trust, and nobody else", async () => {
      await authority.point(DOMAIN, box.address);
      ({ outputs } = await deployment
        .ask(["up"])
        .then(({ outputs: made }) => ({ outputs: { ...made, apiKey: outputs.apiKey } })));
      expect(outputs.endpoints.baseUrl).toBe(`https://${DOMAIN}:${PORT}/v1`);
      expect(await ask(other, "/v1/models", outputs.apiKey)).toBe(200);
      expect(await ask(other, "/v1/models")).toBe(401);
      expect(await ask(far, "/v1/models", outputs.apiKey)).toBe(0);
      expect((await deployment.ask(["up"])).changes).toEqual([]);
      const document = JSON.parse(
        readFileSync(path.join(box.root, "var/lib/tandem/stacks/gate/steps/gateway/request.json"), "utf8"),
      ) as Record<string, unknown>;
      const broken = (changed: object) =>
        RULES.filter(
          ({ check }) =>
            check({
              type: "command:local:Command",
              name: "gate-box-gateway",
              props: { stdin: JSON.stringify({ document: { ...document, ...changed } }) },
            }).length > 0,
        ).map(({ name }) => name);
      expect([broken({}), broken({ tls: "off" })]).toEqual([[], ["no-public-gateway-without-tls"]]);
    });

    it("is renewed by its timer when it is time, without cutting off who is being answered", async () => {
      const first = await serial();
      await box.exec(`systemctl start ${renewal}.service`);
      expect(await serial()).toBe(first);
      const hang = await box.exec("ls -d /tmp/systemd-private-*-tandem-gate-serving.service-*/tmp");
      await box.exec(`touch ${hang.trim()}/fake-vllm-hang`);
      const options = `--cacert /root/issued.pem --resolve ${DOMAIN}:${PORT}:${box.address} -H 'Authorization: Bearer ${outputs.apiKey}'`;
      const stream = other.exec(
        `curl -sN ${options} -d '{"model":"x","prompt":"x","stream":true}' https://${DOMAIN}:${PORT}/v1/completions`,
      );
      // Awaited below; what fails before that is told by itself.
      stream.catch(() => undefined);
      await expect
        .poll(() => box.exec("curl -s http://127.0.0.1:8002/metrics"), { timeout: 10_000 })
        .toMatch(/num_requests_running\S* 1/);
      await box.exec(`${makeDue} && systemctl start ${renewal}.service`);
      expect(await serial()).not.toBe(first);
      expect(await ask(other, "/v1/models", outputs.apiKey)).toBe(200);
      await box.exec(`rm ${hang.trim()}/fake-vllm-hang`);
      expect(await stream).toContain("[DONE]");
      expect((await deployment.ask(["up"])).changes).toEqual([]);
    });

    it("says what is wrong when it can't be renewed, and keeps the one that is still good", async () => {
      const good = await serial();
      const tried = async () => {
        await box.tryExec(`${makeDue}; systemctl start ${renewal}.service`);
        return box.exec(`journalctl -q --no-pager -n 4 -u ${renewal}.service`);
      };
      await box.takePort(80);
      expect(await tried()).toMatch(/port 80 is taken by process \d+ .* — fix: stop it/);
      await box.freePort(80);
      await authority.point(DOMAIN, "");
      expect(await tried()).toMatch(/fix: set the record of llm\.example\.com in your DNS/);
      await authority.point(DOMAIN, box.address);
      copyFileSync(path.join(other.root, "root/issued.pem"), root);
      expect(await tried()).toMatch(/fix: set gateway\.tls\.directoryCa/);
      await other.exec("systemctl stop pebble");
      expect(await tried()).toMatch(/fix: this host must reach https:/);
      expect(await serial()).toBe(good);
      expect(await ask(other, "/v1/models", outputs.apiKey)).toBe(200);
    });
  });

  it("leaves neither package, account, mask nor listening port", async () => {
    const run = await deployment.tandem(["destroy", "--yes"]);
    expect(run, run.stderr).toMatchObject({ status: 0 });
    const left =
      "dpkg -l nginx 2>/dev/null | grep ^ii; getent passwd tandem-gateway; ls /dev/shm /etc/systemd/system | grep -E 'tandem|nginx'; ss -Hltn | grep -v ':22 '; :";
    expect((await box.exec(left)).trim()).toBe("");
  });
});
