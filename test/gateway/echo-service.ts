import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";

/** What arrived behind the gateway. */
export interface Arrived {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly bytes: number;
}

/**
 * Stands for vLLM and the trainer behind the gateway: answers 200 to everything, vLLM's unguarded routes too, and remembers what came, so
 * that whatever the gateway lets through is seen. `/v1/completions` with `"stream": true` sends an event every 100 ms, five
 * of them or as many as `"events"` says.
 */
export class EchoService {
  readonly arrived: Arrived[] = [];
  /** Answers of a test's own, by the path without its query; a function gets the query. */
  readonly answers = new Map<string, unknown>();
  /** Requests whose client went away before the answer was done. */
  abandoned = 0;
  /** Takes requests and answers none. */
  hangs = false;
  /** Requests that it took so. */
  waiting = 0;
  private readonly server: Server;

  constructor() {
    this.server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        if (this.hangs) {
          this.waiting++;
          return;
        }
        const body = Buffer.concat(chunks);
        const { method = "", url = "", headers } = request;
        this.arrived.push({ method, url, headers, bytes: body.length });
        if (body.length < 10_000 && body.includes('"stream": true')) {
          response.writeHead(200, { "content-type": "text/event-stream" });
          const events = Number(/"events": (\d+)/.exec(body.toString())?.[1] ?? 5);
          let sent = 0;
          const timer = setInterval(() => {
            response.write(`data: ${++sent}\n\n`);
            if (sent < events) return;
            clearInterval(timer);
            response.end("data: [DONE]\n\n");
          }, 100);
          response.on("close", () => {
            clearInterval(timer);
            if (!response.writableFinished) this.abandoned++;
          });
          return;
        }
        const made = this.answers.get(url.split("?")[0] ?? "");
        const query = new URLSearchParams(url.split("?")[1]);
        const own = typeof made === "function" ? (made as (query: URLSearchParams) => unknown)(query) : made;
        response.setHeader("content-type", typeof own === "string" ? "text/plain" : "application/json");
        response.end(typeof own === "string" ? own : JSON.stringify(own ?? { data: [], method, url }));
      });
    });
    this.server.keepAliveTimeout = 5000;
  }

  async listen(port = 0): Promise<number> {
    this.server.listen(port, "127.0.0.1");
    await new Promise((resolve) => this.server.once("listening", resolve));
    return (this.server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
