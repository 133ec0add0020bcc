import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

/**
 * Stands for the model hub's file address (`/<owner>/<name>/resolve/<revision>/config.json`), which tests can't reach.
 * Its refusals carry the hub's `X-Error-Code`; `test/runner/hub.slow.test.ts` lets the hub's own Python client read them.
 */
export interface FakeHub {
  readonly endpoint: string;
  /** Values of the authorization header that arrived. */
  readonly authorizations: readonly (string | undefined)[];
  close(): Promise<void>;
}

const REFUSALS: Readonly<Record<string, { status: number; code: string }>> = {
  "/acme/gated": { status: 403, code: "GatedRepo" },
  "/acme/private": { status: 401, code: "RepoNotFound" },
  "/acme/missing": { status: 404, code: "RepoNotFound" },
  "/acme/no-revision": { status: 404, code: "RevisionNotFound" },
  "/acme/no-config": { status: 404, code: "EntryNotFound" },
};

/** Config of a small Llama, so that `acme/open` can be planned. */
export const OPEN_CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 512,
  intermediate_size: 1024,
  num_hidden_layers: 4,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  vocab_size: 1024,
  max_position_embeddings: 2048,
  tie_word_embeddings: false,
  torch_dtype: "bfloat16",
};

export async function startFakeHub(): Promise<FakeHub> {
  const authorizations: (string | undefined)[] = [];
  const server: Server = createServer((request, response) => {
    authorizations.push(request.headers.authorization);
    const repository = /^(\/[^/]+\/[^/]+)\/resolve\//.exec(request.url ?? "")?.[1] ?? "";
    const refusal = REFUSALS[repository];
    if (refusal !== undefined) {
      response.writeHead(refusal.status, { "x-error-code": refusal.code, "x-error-message": refusal.code }).end();
    } else if (repository === "/acme/broken") {
      response.writeHead(500).end();
    } else if (repository === "/acme/slow") {
      setTimeout(() => response.writeHead(200).end(JSON.stringify(OPEN_CONFIG)), 5_000).unref();
    } else {
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(OPEN_CONFIG));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    authorizations,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
