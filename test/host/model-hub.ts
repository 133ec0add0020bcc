import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const COMMIT = "a".repeat(40);

/**
 * Stands for the model hub, which tests can't reach: the part of its API that the hub's own Python client asks for when it
 * fetches a model. Answers are in the form that huggingface_hub 2.4 reads; that client is what the tests run against it.
 */
export class ModelHub {
  readonly requests: {
    readonly method: string;
    readonly path: string;
    readonly token?: string;
    readonly range?: string;
  }[] = [];
  /** How many times the connection ends in the middle of the weights, as with a cut line. */
  cuts = 0;
  private readonly server = createServer((request, response) => this.answer(request, response));

  constructor(private readonly files: Readonly<Record<string, Buffer>>) {}

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  stop(): Promise<void> {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(() => resolve()));
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname } = new URL(request.url ?? "/", "http://hub");
    this.requests.push({
      method: request.method ?? "",
      path: pathname,
      token: request.headers.authorization,
      range: request.headers.range,
    });
    const [, model, rest = ""] = /^\/api\/models\/([^/]+\/[^/]+)\/(.*)$/.exec(pathname) ?? [];
    const file = /^\/acme\/open\/resolve\/[^/]+\/(.*)$/.exec(pathname)?.[1] ?? "";
    const content = this.files[file];
    if (content !== undefined) this.file(request, response, file, content);
    else if (model === "acme/open") this.open(response, rest);
    else if (model === "acme/gated" && rest.startsWith("revision/")) this.json(response, this.description(true));
    else if (model === "acme/gated") refuse(response, 403, "GatedRepo");
    else refuse(response, 404, "RepoNotFound");
  }

  private open(response: ServerResponse, rest: string): void {
    if (rest === "revision/main" || rest === `revision/${COMMIT}`) this.json(response, this.description(false));
    else if (rest.startsWith("tree/")) this.json(response, this.tree());
    else refuse(response, 404, "RevisionNotFound");
  }

  private description(gated: boolean): unknown {
    const siblings = Object.entries(this.files).map(([rfilename, { length }]) => ({ rfilename, size: length }));
    return { id: "acme/open", sha: COMMIT, siblings, gated: gated && "manual", private: false, tags: [], downloads: 0 };
  }

  private tree(): unknown {
    return Object.entries(this.files).map(([path, content]) => ({
      type: "file",
      oid: sha1(content),
      size: content.length,
      path,
    }));
  }

  private json(response: ServerResponse, body: unknown): void {
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
  }

  private file(request: IncomingMessage, response: ServerResponse, name: string, content: Buffer): void {
    const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const part = content.subarray(from);
    response.writeHead(from > 0 ? 206 : 200, {
      etag: `"${sha1(content)}"`,
      "x-repo-commit": COMMIT,
      "accept-ranges": "bytes",
      "content-length": part.length,
      ...(from > 0 && { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` }),
    });
    if (request.method === "HEAD") return void response.end();
    if (!name.endsWith(".safetensors") || this.cuts === 0) return void response.end(part);
    this.cuts--;
    response.write(part.subarray(0, part.length / 2), () => setTimeout(() => response.destroy(), 100));
  }
}

/** The hub names its reason in a header. */
function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { "x-error-code": code }).end();
}

function sha1(content: Buffer): string {
  return createHash("sha1").update(content).digest("hex");
}
