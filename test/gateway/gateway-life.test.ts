import { execFileSync } from "node:child_process";
import { appendFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { connect } from "node:tls";
import * as path from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { kill, processesWith, read, until } from "../host/host";
import { gatewayConfiguration } from "../../plan/gateway";
import { SHARED_CACHE } from "../fixtures/shared-cache";
import { EchoService } from "./echo-service";
import { GatewayHost, KEYS } from "./gateway-host";

/** What a busy machine needs for what takes a moment. */
const SOON = { timeout: 20_000 };

let gateway: GatewayHost;
afterEach(() => gateway.close());

async function started(settings: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
  gateway = new GatewayHost();
  const { stdout } = await gateway.start(settings);
  return JSON.parse(stdout) as Record<string, unknown>;
}

const unit = () => path.join(gateway.host.stackDir, "units/gateway");
const runFolder = () => (JSON.parse(readFileSync(path.join(unit(), "gateway.json"), "utf8")) as { run: string }).run;
const masterProcess = () => readFileSync(path.join(runFolder(), "var/nginx.pid"), "utf8").trim();
const holds = async () => (await gateway.host.check()).find(({ step }) => step === "gateway");
const statusWith = async (key: string) => (await gateway.fetch("/v1/models", { key })).status;

describe("the gateway's step", () => {
  it("changes nothing the second time, and holds", async () => {
    const first = await started();
    const again = await gateway.apply();
    expect(again.stderr).toContain("running as asked for");
    expect(JSON.parse(again.stdout)).toEqual(first);
    expect(await holds()).toMatchObject({ holds: true });
    // The long way, for hosts without curl.
    rmSync(path.join(unit(), "asked"));
    expect(await holds()).toMatchObject({ holds: true });
  });

  it("sees what was changed by hand in what it runs on, and lays it out again without a restart", async () => {
    await started();
    const master = masterProcess();
    for (const file of [path.join(runFolder(), "nginx.conf"), path.join(unit(), "gateway_monitor.py")]) {
      appendFileSync(file, "# by hand\n");
      expect(await holds()).toMatchObject({ holds: false, reason: `the gateway's file ${file} was changed` });
      expect((await gateway.apply()).code).toBe(0);
      expect(await holds()).toMatchObject({ holds: true });
    }
    expect(masterProcess()).toBe(master);
  });

  it("holds while vLLM hangs, which is not its fault, and does not when nginx does", async () => {
    await started();
    gateway.serving.hangs = true;
    expect(await holds()).toMatchObject({ holds: true });
    const workers = processesWith("nginx: worker").filter(
      (id) => read(`/proc/${id}/stat`).split(" ")[3] === masterProcess(),
    );
    for (const id of workers) process.kill(id, "SIGSTOP");
    try {
      expect(await holds()).toMatchObject({ holds: false, reason: expect.stringContaining("nginx does not answer") });
    } finally {
      for (const id of workers) process.kill(id, "SIGCONT");
    }
    expect(workers.length).toBeGreaterThan(0);
  });

  it("replaces one key without a restart and without breaking anybody's stream", async () => {
    const first = await started();
    const master = masterProcess();
    const stream = await gateway.fetch("/v1/completions", {
      method: "POST",
      key: KEYS.alice,
      body: '{"stream": true}',
    });
    const replaced = `tdm-${"n".repeat(43)}`;
    const answer = await gateway.apply({ ...KEYS, alice: replaced, bob: `tdm-${"b".repeat(43)}` });
    expect(JSON.parse(answer.stdout)).toEqual(first);
    expect(answer.stderr).toContain("no request is interrupted");
    expect(await stream.text()).toContain("[DONE]");
    expect(await statusWith(KEYS.alice)).toBe(401);
    expect(await statusWith(replaced)).toBe(200);
    expect(await statusWith(KEYS.default)).toBe(200);
    expect(masterProcess()).toBe(master);
  });

  it("goes back from all addresses to loopback, which the running nginx could not", async () => {
    await started({
      exposure: "private",
      gateway: { tls: { mode: "off" }, allowedCidrs: ["127.0.0.0/8"] },
    });
    expect(gateway.document).toMatchObject({ address: "0.0.0.0" });
    const configuration = gateway.document.configuration.replaceAll("0.0.0.0:", "127.0.0.1:");
    const closed = { ...gateway.document, address: "127.0.0.1", configuration };
    const answer = await gateway.apply(KEYS, closed);
    expect(answer, answer.stderr).toMatchObject({ code: 0 });
    expect(await statusWith(KEYS.default)).toBe(200);
  });

  it("refuses a key that nginx would read as a pattern", async () => {
    await started();
    const answer = await gateway.apply({ default: `.*${"x".repeat(40)}` });
    expect(answer.code).not.toBe(0);
    expect(await statusWith(`.*${"x".repeat(40)}`)).toBe(401);
    expect(await statusWith(KEYS.default)).toBe(200);
    expect((await gateway.apply()).code).toBe(0);
  });

  it("says 503 and when to try again while vLLM is away, and holds all the same", async () => {
    await started();
    await gateway.serving.close();
    const response = await gateway.fetch("/v1/models", { key: KEYS.default });
    expect(response.status).toBe(503);
    expect(response.headers.get("retry-after")).toBe("10");
    expect(await response.json()).toMatchObject({ error: { type: "server_error", code: "unavailable" } });
    expect((await gateway.fetch("/health")).status).toBe(503);
    expect(await holds()).toMatchObject({ holds: true });
    await gateway.serving.listen(gateway.servingPort);
    await expect.poll(() => statusWith(KEYS.default), SOON).toBe(200);
  });

  it("comes back by itself when nginx is killed, with all its workers", async () => {
    await started();
    const master = masterProcess();
    kill(Number(master));
    await until(
      "another nginx",
      () => existsSync(path.join(runFolder(), "var/nginx.pid")) && masterProcess() !== master,
      30,
    );
    await expect.poll(() => statusWith(KEYS.default).catch(() => 0), SOON).toBe(200);
    await expect.poll(() => holds(), SOON).toMatchObject({ holds: true });
  });

  it("leaves no process and no folder, also when supervisor and keeper were killed", async () => {
    await started();
    const folder = runFolder();
    const { supervisorPid, keeperPid } = JSON.parse(readFileSync(path.join(unit(), "status.json"), "utf8")) as {
      supervisorPid: number;
      keeperPid: number;
    };
    for (const id of [supervisorPid, keeperPid]) kill(id);
    expect((await gateway.host.run(["undo", "gateway"])).code).toBe(0);
    await expect.poll(() => processesWith(folder), SOON).toEqual([]);
    expect(existsSync(folder)).toBe(false);
    await expect(gateway.fetch("/health")).rejects.toThrow();
  });

  it.runIf(process.getuid?.() === 0)("takes a port below 1024 before it drops its rights, and keeps it", async () => {
    // Nothing is registered for it.
    await started({ port: 1019 });
    expect(await statusWith(KEYS.default)).toBe(200);
    expect(read(`/proc/${masterProcess()}/status`)).toMatch(/^CapEff:\s0+$/m);
    const { stderr } = await gateway.apply({ default: KEYS.default });
    expect(stderr).toContain("no request is interrupted");
    expect(await statusWith(KEYS.alice)).toBe(401);
    expect(await statusWith(KEYS.default)).toBe(200);
  });

  it.runIf(process.getuid?.() === 0)("serves and holds as a user without root's rights, too", async () => {
    const nobody = 65534;
    // The system's Python: another may lie in a home of root's.
    gateway = new GatewayHost({ TANDEM_PYTHON: "/usr/bin/python3", PATH: "/usr/local/bin:/usr/bin:/bin" }, nobody);
    const tools = path.join(gateway.host.environment["TANDEM_CACHE_DIR"]!, "tools");
    mkdirSync(tools, { recursive: true });
    cpSync(path.join(SHARED_CACHE, "tools"), tools, {
      recursive: true,
      preserveTimestamps: true,
      filter: (file) => file === path.join(SHARED_CACHE, "tools") || file.includes("/nginx-"),
    });
    execFileSync("chown", ["-R", `${nobody}:${nobody}`, path.dirname(tools)]);
    await gateway.start();
    expect(await statusWith(KEYS.default)).toBe(200);
    expect(await statusWith(`${KEYS.default}x`)).toBe(401);
    expect(read(`/proc/${masterProcess()}/status`)).toMatch(new RegExp(`^Uid:\\s${nobody}\\s${nobody}\\s`, "m"));
    expect(await holds()).toMatchObject({ holds: true });
    expect((await gateway.apply({ default: KEYS.default })).stderr).toContain("no request is interrupted");
    expect(await statusWith(KEYS.alice)).toBe(401);
  });

  it("names who has the port", async () => {
    await started();
    const { port } = new URL(`http://127.0.0.1:${gateway.servingPort}`);
    const answer = await gateway.apply(KEYS, { ...gateway.document, port: Number(port) });
    expect(answer).toMatchObject({ code: 31, stderr: expect.stringContaining(`port ${port} is taken by process`) });
    expect(await statusWith(KEYS.default)).toBe(200);
  });
});

describe("several vLLM behind one gateway", () => {
  it("share the requests, and one that dies costs no more than what it was answering", async () => {
    await started();
    const second = new EchoService();
    const serving = [gateway.servingPort, await second.listen()].map((port) => `127.0.0.1:${port}`);
    const { address, port, monitor } = gateway.document;
    const limits = { requestsPerSecond: 1000, connections: 512, bodyMiB: 1, fileMiB: 1 };
    const configuration = gatewayConfiguration({ address, port, tls: false, allowedCidrs: [], serving, limits });
    const document = { ...gateway.document, configuration, monitor: { ...monitor, serving } };
    expect((await gateway.apply(KEYS, document)).code).toBe(0);
    const ask = (body: object = {}) =>
      gateway.fetch("/v1/completions", { method: "POST", key: KEYS.default, body: JSON.stringify(body) });
    const many = async () => (await Promise.all(Array.from({ length: 40 }, () => ask()))).map(({ status }) => status);
    try {
      expect(new Set(await many())).toEqual(new Set([200]));
      for (const service of [gateway.serving, second]) expect(service.arrived.length).toBeGreaterThan(10);
      // The one that is busy gets the next ones last.
      gateway.serving.hangs = true;
      const waiting = [ask(), ask()];
      await expect.poll(() => gateway.serving.waiting, SOON).toBeGreaterThan(0);
      const before = second.arrived.length;
      for (let count = 0; count < 10; count++) expect((await ask()).status).toBe(200);
      expect(second.arrived.length - before).toBeGreaterThanOrEqual(10);
      const held = gateway.serving.waiting;
      await gateway.serving.close();
      const ended = (await Promise.all(waiting)).map(({ status }) => status);
      expect(ended.filter((status) => status === 503)).toHaveLength(held);
      expect(new Set(await many())).toEqual(new Set([200]));
      // Back again, it is asked again.
      gateway.serving.hangs = false;
      await gateway.serving.listen(gateway.servingPort);
      const known = gateway.serving.arrived.length;
      await expect
        .poll(async () => (await many()) && gateway.serving.arrived.length > known, { ...SOON, interval: 500 })
        .toBe(true);
    } finally {
      await second.close();
    }
  });
});

describe("TLS", () => {
  it("makes a certificate whose fingerprint the step tells, and takes new protocols and ciphers only", async () => {
    const { fingerprint } = await started({ gateway: { tls: { mode: "self-signed" } } });
    const peer = await handshake({});
    expect(peer.fingerprint).toBe(fingerprint);
    expect(peer.status).toBe(401);
    for (const old of ["TLSv1", "TLSv1.1"] as const) {
      await expect(handshake({ minVersion: old, maxVersion: old, ciphers: "DEFAULT@SECLEVEL=0" })).rejects.toThrow();
    }
    await expect(handshake({ maxVersion: "TLSv1.2", ciphers: "AES128-SHA@SECLEVEL=0" })).rejects.toThrow();
    expect(JSON.parse((await gateway.apply()).stdout)).toMatchObject({ fingerprint });
    // As if its end were near.
    const end = Number(read(path.join(unit(), "tls.times")).split(" ")[2]);
    expect(end * 1000 - Date.now()).toBeGreaterThan(395 * 86_400_000);
    writeFileSync(path.join(unit(), "tls.times"), `1 2 ${end}\n`);
    expect(await holds()).toMatchObject({ holds: false, reason: expect.stringContaining("ends soon") });
    const renewed = JSON.parse((await gateway.apply()).stdout) as { fingerprint: string };
    expect(renewed.fingerprint).not.toBe(fingerprint);
    expect(await holds()).toMatchObject({ holds: true });
  });

  it("takes a certificate from files, follows it when it is renewed, and refuses a wrong pair", async () => {
    gateway = new GatewayHost();
    const files = (name: string) =>
      [path.join(gateway.host.root, `${name}.crt`), path.join(gateway.host.root, `${name}.key`)] as const;
    const make = (name: string) => {
      const [certificate, key] = files(name);
      const subject = ["-subj", "/CN=test", "-days", "2", "-nodes", "-keyout", key, "-out", certificate];
      execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", ...subject], {
        stdio: "ignore",
      });
    };
    for (const name of ["used", "renewed"]) make(name);
    const [certificate, key] = files("used");
    const { stdout } = await gateway.start({ gateway: { tls: { mode: "files", certificate, key } } });
    const { fingerprint } = JSON.parse(stdout) as { fingerprint: string };
    expect((await handshake({})).fingerprint).toBe(fingerprint);
    // It lasts two days: the last third is for renewing it.
    const [renew = 0, late = 0, end = 0] = read(path.join(unit(), "tls.times")).split(" ").map(Number);
    expect([end - renew, end - late]).toEqual([16 * 3600, 8 * 3600]);
    for (const [index, source] of files("renewed").entries())
      writeFileSync(files("used")[index]!, readFileSync(source));
    expect(await holds()).toMatchObject({ holds: false, reason: expect.stringContaining("certificate") });
    const renewed = JSON.parse((await gateway.apply()).stdout) as { fingerprint: string };
    expect(renewed.fingerprint).not.toBe(fingerprint);
    expect((await handshake({})).fingerprint).toBe(renewed.fingerprint);
    make("used");
    writeFileSync(certificate, readFileSync(files("renewed")[0]));
    expect(await gateway.apply()).toMatchObject({ code: 38, stderr: expect.stringContaining("don't belong together") });
    // A certificate of its own has nothing of the files.
    const own = await gateway.apply(KEYS, { ...gateway.document, tls: "self-signed" });
    expect(JSON.parse(own.stdout)).not.toMatchObject({ fingerprint: renewed.fingerprint });
    expect(await holds()).toMatchObject({ holds: true });
  });

  /** What the gateway shows of itself to one who trusts anybody, and what it answers without a key. */
  function handshake(options: object): Promise<{ fingerprint: string; status: number }> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port: gateway.port, host: "127.0.0.1", rejectUnauthorized: false, ...options }, () => {
        const { fingerprint256 } = socket.getPeerCertificate();
        const asked = request({ createConnection: () => socket, path: "/v1/models" }, (response) => {
          response.resume();
          socket.destroy();
          resolve({ fingerprint: fingerprint256, status: response.statusCode ?? 0 });
        });
        asked.on("error", reject).end();
      });
      socket.on("error", reject);
    });
  }
});
