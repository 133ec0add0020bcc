import { readFileSync, statSync } from "node:fs";
import { connect } from "node:net";
import * as path from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { gatewayRoutes } from "../../plan/gateway-routes";
import { processesWith, read } from "../host/host";
import { attacks, METHODS, OTHER_ROUTES } from "./attacks";
import { GatewayHost, KEYS, UPSTREAM_KEY } from "./gateway-host";
import { rawRequest, statusOf } from "./raw-request";

/** What a busy machine needs for what takes milliseconds. */
const SOON = { timeout: 20_000 };

let gateway: GatewayHost;
beforeAll(async () => {
  gateway = new GatewayHost();
  await gateway.start({ gateway: { limits: { requestsPerSecond: 2000, bodyMiB: 1, fileMiB: 4 } } });
}, 60_000);
afterAll(() => gateway.close());

const unit = () => path.join(gateway.host.stackDir, "units/gateway");
const runFolder = () => (JSON.parse(readFileSync(path.join(unit(), "gateway.json"), "utf8")) as { run: string }).run;
const log = () => read(path.join(unit(), "log"));
const arrivals = () => [...gateway.serving.arrived, ...gateway.training.arrived];

describe("keys", () => {
  it("lets each key in and hands the service behind a key of its own", async () => {
    for (const key of Object.values(KEYS)) {
      expect((await gateway.fetch("/v1/models", { key })).status).toBe(200);
      expect(gateway.serving.arrived.at(-1)?.headers.authorization).toBe(`Bearer ${UPSTREAM_KEY}`);
    }
  });

  it("says no to a request without a key in the form that OpenAI's clients read", async () => {
    const client = new OpenAI({ apiKey: "wrong", baseURL: `http://127.0.0.1:${gateway.port}/v1`, maxRetries: 0 });
    await expect(client.models.list()).rejects.toMatchObject({ status: 401, code: "invalid_api_key" });
  });

  it("tells in the log who did what, and never the key", async () => {
    await gateway.fetch("/v1/models?secret=canary-query", { key: KEYS.alice, headers: { "x-request-id": "seen-1" } });
    const lineOf = (id: string) =>
      log()
        .split("\n")
        .find((entry) => entry.includes(id));
    await expect.poll(() => lineOf("seen-1"), SOON).toBeDefined();
    expect(JSON.parse(lineOf("seen-1") ?? "")).toMatchObject({
      key: "alice",
      method: "GET",
      path: "/v1/models",
      status: "200",
    });
    for (const secret of [...Object.values(KEYS), UPSTREAM_KEY, "canary-query"]) expect(log()).not.toContain(secret);
  });

  it("keeps keys in files that only their user can read, out of every environment and argv", () => {
    const folder = runFolder();
    expect(statSync(path.join(folder, "keys.conf")).mode & 0o777).toBe(0o400);
    expect(statSync(path.join(unit(), "gateway.json")).mode & 0o777).toBe(0o600);
    expect(readFileSync(path.join(folder, "nginx.conf"), "utf8")).not.toMatch(/tdm-/);
    const processes = processesWith(folder);
    expect(processes.length).toBeGreaterThan(0);
    for (const id of processes) expect(read(`/proc/${id}/environ`) + read(`/proc/${id}/cmdline`)).not.toMatch(/tdm-/);
  });

  it("runs without rights", () => {
    const folder = runFolder();
    const master = readFileSync(path.join(folder, "var/nginx.pid"), "utf8").trim();
    const status = read(`/proc/${master}/status`);
    expect(status).toMatch(/^NoNewPrivs:\s1$/m);
    if (process.getuid?.() !== 0) return;
    expect(status).toMatch(/^CapEff:\s0+$/m);
    expect(status).not.toMatch(/^Uid:\s0\s/m);
  });
});

describe("the allow-list", () => {
  it("passes each route by its methods, byte for byte", async () => {
    const routes = gatewayRoutes({ trains: true });
    for (const { path: route, methods, to } of routes.filter(({ to }) => to !== "page" && to !== "monitor")) {
      const url = `${route.replace("{id}", "id-1").replace("{name}", "ft:Qwen/Qwen3-0.6B:a.b%2Fc:1")}?after=x%20y`;
      for (const method of methods) {
        const response = await gateway.fetch(url, { method, key: KEYS.default });
        expect(response.status, `${method} ${url}`).toBe(200);
        const behind = to === "serving" || to === "health" ? gateway.serving : gateway.training;
        expect(behind.arrived.at(-1)).toMatchObject({ method, url });
      }
    }
  });

  it("answers 404 to each of these routes by every other method", async () => {
    const before = arrivals().length;
    const routes = gatewayRoutes({ trains: true });
    const wrong = routes.flatMap(({ path: route }) => {
      const allowed = routes.filter((other) => other.path === route).flatMap(({ methods }) => methods);
      return METHODS.filter((method) => !allowed.includes(method)).map((method) => ({ method, route }));
    });
    await expectClosed(wrong.map(({ method, route }) => ({ method, path: route.replace(/\{\w+\}/, "x") })));
    expect(arrivals().length).toBe(before);
  });

  it("answers 404 to every other route of vLLM and of the trainer, with a key and without", async () => {
    const before = arrivals().length;
    await expectClosed(OTHER_ROUTES.flatMap((route) => METHODS.map((method) => ({ method, path: route }))));
    expect(arrivals().length).toBe(before);
  });

  /** By raw requests: fetch refuses some methods and tidies paths up. */
  async function expectClosed(requests: readonly { method: string; path: string }[]): Promise<void> {
    for (const key of ["", `Authorization: Bearer ${KEYS.default}\r\n`]) {
      for (const { method, path: route } of requests) {
        const text = `${method} ${route} HTTP/1.1\r\nHost: x\r\n${key}Connection: close\r\n\r\n`;
        expect(statusOf(await rawRequest(gateway.port, text)), `${method} ${route}`).toBe(404);
      }
    }
  }
});

describe("attacks", () => {
  it.each(attacks(KEYS.default))("stay outside: $name", async ({ request, closed }) => {
    const before = arrivals().length;
    const answer = await rawRequest(gateway.port, request);
    expect(closed, answer.slice(0, 300)).toContain(statusOf(answer));
    expect(arrivals().length).toBe(before);
    expect(answer).not.toMatch(/nginx\/\d/);
  });
});

describe("limits", () => {
  it("refuses a body beyond the route's limit before it is passed on", async () => {
    const before = arrivals().length;
    const large = await gateway.fetch("/v1/completions", {
      method: "POST",
      key: KEYS.default,
      body: "x".repeat(2 << 20),
    });
    expect(large.status).toBe(413);
    const file = await gateway.fetch("/v1/files", { method: "POST", key: KEYS.default, body: "x".repeat(5 << 20) });
    expect(file.status).toBe(413);
    expect(arrivals().length).toBe(before);
    const fits = await gateway.fetch("/v1/files", { method: "POST", key: KEYS.default, body: "x".repeat(3 << 20) });
    expect(fits.status).toBe(200);
    expect(gateway.training.arrived.at(-1)?.bytes).toBe(3 << 20);
  });

  it("slows guessers of keys down, and nobody else", async () => {
    const guesses = await Promise.all(
      Array.from({ length: 60 }, (_, index) => gateway.fetch("/v1/models", { key: `tdm-guess-${index}` })),
    );
    expect(guesses.filter(({ status }) => status === 429).length).toBeGreaterThan(20);
    expect(guesses.every(({ status }) => status === 401 || status === 429)).toBe(true);
    expect((await gateway.fetch("/v1/models", { key: KEYS.default })).status).toBe(200);
  });

  it("slows down who asks the routes without a key too often, so that vLLM is not asked each time", async () => {
    const before = gateway.serving.arrived.length;
    const asked = await Promise.all(Array.from({ length: 300 }, () => gateway.fetch("/health")));
    expect(asked.filter(({ status }) => status === 429).length).toBeGreaterThan(100);
    expect(gateway.serving.arrived.length - before).toBeLessThan(200);
    expect(log()).not.toContain("limiting requests");
  });

  it("cuts off who sends headers drop by drop, and serves others meanwhile", async () => {
    const started = Date.now();
    const slow = Array.from({ length: 200 }, () => {
      const socket = connect(gateway.port, "127.0.0.1", () => socket.write("GET /v1/models HTTP/1.1\r\nHost: x\r\n"));
      const timer = setInterval(() => socket.write("X-A: b\r\n"), 1000);
      return new Promise<void>((resolve) => {
        socket.on("error", () => undefined);
        socket.on("close", () => {
          clearInterval(timer);
          resolve();
        });
      });
    });
    expect((await gateway.fetch("/v1/models", { key: KEYS.default })).status).toBe(200);
    await Promise.all(slow);
    expect(Date.now() - started).toBeLessThan(20_000);
  });

  it("serves its keys beside 2000 open connections", async () => {
    const sockets = await Promise.all(
      Array.from({ length: 2000 }, () => {
        const socket = connect(gateway.port, "127.0.0.1");
        socket.on("error", () => undefined);
        return new Promise<typeof socket>((resolve) => {
          socket.once("connect", () => {
            resolve(socket);
          });
        });
      }),
    );
    expect((await gateway.fetch("/v1/models", { key: KEYS.default })).status).toBe(200);
    for (const socket of sockets) socket.destroy();
  });
});

describe("streams", () => {
  it("hands on each event when it is made", async () => {
    const response = await gateway.fetch("/v1/completions", {
      method: "POST",
      key: KEYS.default,
      body: '{"stream": true}',
    });
    const times: number[] = [];
    for await (const chunk of response.body!)
      times.push(...Array<number>(Buffer.from(chunk).toString().split("data:").length - 1).fill(Date.now()));
    expect(times.length).toBe(6);
    expect(times[4]! - times[0]!).toBeGreaterThan(250);
  });

  it("tells the service when its reader goes away", async () => {
    const before = gateway.serving.abandoned;
    const stop = new AbortController();
    const response = await gateway.fetch("/v1/completions", {
      method: "POST",
      key: KEYS.default,
      body: '{"stream": true, "events": 1000}',
      signal: stop.signal,
    });
    await response.body!.getReader().read();
    stop.abort();
    await expect.poll(() => gateway.serving.abandoned, SOON).toBe(before + 1);
  });

  it("passes a request id through, and makes one where there is none or a bad one", async () => {
    const given = await gateway.fetch("/v1/models", { key: KEYS.default, headers: { "x-request-id": "abc-1" } });
    expect(given.headers.get("x-request-id")).toBe("abc-1");
    expect(gateway.serving.arrived.at(-1)?.headers["x-request-id"]).toBe("abc-1");
    const bad = await gateway.fetch("/v1/models", { key: KEYS.default, headers: { "x-request-id": "a b<c>" } });
    expect(bad.headers.get("x-request-id")).toMatch(/^[0-9a-f]{32}$/);
  });
});
