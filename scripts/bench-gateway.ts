/**
 * What the gateway costs between a client and vLLM, on this machine in one run, alternating with the direct way:
 *   1. tokens a second of 64 streams that come as fast as two H100 made them (docs/measurements.md: 10 451 tok/s);
 *   2. time of one small request on an open connection.
 * The service behind is a program that sends events by the clock: a model on the CPU would hide what is measured. Prints plain lines; exits
 * with 1 when a target is missed.
 */
import { fork } from "node:child_process";
import { Agent, createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { loadavg } from "node:os";
import { builtInShape } from "../plan/built-in-shapes";
import { gatewayDocument } from "../plan/gateway-plan";
import { hypotheticalHost } from "../plan/gpu-types";
import { makePlan } from "../plan/make-plan";
import { parseSettings } from "../plan/settings";
import { freePort } from "../test/fixtures/free-port";
import { TestHost } from "../test/host/host";

const STREAMS = 64;
const EVENT_MILLISECONDS = 6;
const EVENTS = 500;
const ROUNDS = 5;
const REQUESTS = 2000;
const THROUGHPUT_TARGET = 0.98;
const ADDED_TARGET_MILLISECONDS = 1;
const KEY = `tdm-${"k".repeat(43)}`;
const MODEL = "Qwen/Qwen3-0.6B";
const EVENT = `data: ${JSON.stringify({ id: "cmpl-1", object: "text_completion", choices: [{ index: 0, text: " token" }] })}\n\n`;

/** Stands for vLLM: one event a stream every few milliseconds, however busy it is otherwise. */
function serve(): void {
  const server = createServer((asked, response) => {
    asked.resume();
    if (asked.url !== "/v1/completions") {
      response.setHeader("content-type", "application/json").end('{"object":"list","data":[]}');
      return;
    }
    response.setHeader("content-type", "text/event-stream");
    const started = performance.now();
    let sent = 0;
    const timer = setInterval(() => {
      const due = Math.min(EVENTS, Math.floor((performance.now() - started) / EVENT_MILLISECONDS));
      for (; sent < due; sent++) response.write(EVENT);
      if (sent < EVENTS) return;
      clearInterval(timer);
      response.end("data: [DONE]\n\n");
    }, EVENT_MILLISECONDS);
    response.on("close", () => {
      clearInterval(timer);
    });
  });
  server.listen(0, "127.0.0.1", () => process.send?.((server.address() as AddressInfo).port));
  process.on("disconnect", () => process.exit());
}

async function main(): Promise<number> {
  const service = fork(__filename, ["serve"], { execArgv: process.execArgv });
  const host = new TestHost();
  try {
    const direct = await new Promise<number>((resolve) => service.once("message", (port) => resolve(Number(port))));
    const through = await startGateway(host, direct);
    const isFast = await reportStreams(direct, through);
    const isQuick = await reportLatency(direct, through);
    console.log(
      `load average at the end: ${loadavg()
        .map((minutes) => minutes.toFixed(1))
        .join(" ")}`,
    );
    return isFast && isQuick ? 0 : 1;
  } finally {
    service.kill();
    await host.close();
  }
}

async function startGateway(host: TestHost, servingPort: number): Promise<number> {
  const port = await freePort();
  const limits = { requestsPerSecond: 100_000 };
  const { settings } = parseSettings({ model: MODEL, gpus: 2, port, gateway: { enabled: true, servingPort, limits } });
  const hosts = [hypotheticalHost({ gpus: 2, gpuType: "h100-80gb" })];
  const shape = builtInShape(MODEL);
  const plan = settings && shape && makePlan({ settings, shape, hosts }).plan;
  if (settings === undefined || plan === undefined) throw new Error("the gateway of the bench can't be planned");
  const document = gatewayDocument(settings, plan, { address: "127.0.0.1" });
  const answer = await host.run(["apply", "gateway"], { document, secrets: { upstreamKey: KEY, "key default": KEY } });
  if (answer.code !== 0) throw new Error(answer.stderr);
  return port;
}

async function reportStreams(direct: number, through: number): Promise<boolean> {
  const rates: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    // Each is first as often as the other.
    const order = round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const);
    for (const way of order) rates[way].push(await streams(way === 0 ? direct : through));
  }
  const [without, within] = rates.map(median) as [number, number];
  const ratio = within / without;
  console.log(
    `${STREAMS} streams: ${within.toFixed(0)} tok/s through the gateway, ${without.toFixed(0)} directly: ${(100 * ratio).toFixed(2)} % ` +
      `(medians of ${ROUNDS}, alternating; target at least ${100 * THROUGHPUT_TARGET} %: ${ratio >= THROUGHPUT_TARGET ? "met" : "missed"})`,
  );
  return ratio >= THROUGHPUT_TARGET;
}

/** Events a second of all streams together, from the first request to the last event. */
async function streams(port: number): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: STREAMS });
  const started = performance.now();
  const counts = await Promise.all(
    Array.from({ length: STREAMS }, async () => {
      const bytes = await ask(agent, port, "POST", "/v1/completions");
      return Math.floor(bytes / EVENT.length);
    }),
  );
  agent.destroy();
  const events = counts.reduce((sum, count) => sum + count, 0);
  if (events !== STREAMS * EVENTS) throw new Error(`${events} of ${STREAMS * EVENTS} events arrived`);
  return (1000 * events) / (performance.now() - started);
}

async function reportLatency(direct: number, through: number): Promise<boolean> {
  const ways = [direct, through].map((port) => ({
    port,
    agent: new Agent({ keepAlive: true, maxSockets: 1 }),
    times: [] as number[],
  }));
  for (let index = 0; index < REQUESTS; index++) {
    for (const { agent, port, times } of ways) {
      const started = performance.now();
      await ask(agent, port, "GET", "/v1/models");
      times.push(performance.now() - started);
    }
  }
  for (const { agent } of ways) agent.destroy();
  const [without, within] = ways.map(({ times }) => median(times)) as [number, number];
  const added = within - without;
  console.log(
    `one request: ${within.toFixed(3)} ms through the gateway, ${without.toFixed(3)} ms directly: ${added.toFixed(3)} ms added ` +
      `(medians of ${REQUESTS}, alternating; target below ${ADDED_TARGET_MILLISECONDS} ms: ${added < ADDED_TARGET_MILLISECONDS ? "met" : "missed"})`,
  );
  return added < ADDED_TARGET_MILLISECONDS;
}

/** The whole answer; its length in bytes. */
function ask(agent: Agent, port: number, method: string, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${KEY}`, "content-type": "application/json" };
    const asked = request({ agent, host: "127.0.0.1", port, method, path, headers }, (response) => {
      let bytes = 0;
      response.on("data", (data: Buffer) => (bytes += data.length));
      response.on("error", reject);
      response.on("end", () => {
        if (response.statusCode === 200) resolve(bytes);
        else reject(new Error(`${method} ${path} answers ${response.statusCode}`));
      });
    });
    asked.on("error", reject);
    asked.end(method === "POST" ? '{"stream": true}' : undefined);
  });
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

if (process.argv[2] === "serve") serve();
else void main().then((status) => process.exit(status));
