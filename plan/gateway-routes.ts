/** Who answers a route behind the gateway. `page` is a file of the gateway's own, `monitor` the program beside it. */
export type GatewayTarget = "health" | "serving" | "training" | "files" | "page" | "monitor";

/** One path with the methods that are let through. `{id}` stands for an identifier, `{name}` for a model's name. */
export interface GatewayRoute {
  readonly methods: readonly string[];
  readonly path: string;
  readonly to: GatewayTarget;
  /** Open without a key. Only what tells nothing may be. */
  readonly open?: true;
}

const ALWAYS: readonly GatewayRoute[] = [
  // For load balancers and probes, which have no key: that it answers is all that it tells.
  { methods: ["GET", "HEAD"], path: "/health", to: "health", open: true },
  { methods: ["GET"], path: "/v1/models", to: "serving" },
  { methods: ["POST"], path: "/v1/chat/completions", to: "serving" },
  { methods: ["POST"], path: "/v1/completions", to: "serving" },
  // vLLM answers it with 404 where the model makes none.
  { methods: ["POST"], path: "/v1/embeddings", to: "serving" },
  { methods: ["POST"], path: "/v1/responses", to: "serving" },
  // vLLM names them so; `/v1/responses/render` is another route.
  { methods: ["GET"], path: "/v1/responses/resp_{id}", to: "serving" },
  { methods: ["POST"], path: "/v1/responses/resp_{id}/cancel", to: "serving" },
  // The page holds no data: it asks its reader for the key.
  { methods: ["GET"], path: "/status", to: "page", open: true },
  { methods: ["GET"], path: "/status.json", to: "monitor" },
  { methods: ["GET"], path: "/metrics", to: "monitor" },
];

const TRAINING: readonly GatewayRoute[] = [
  { methods: ["GET", "DELETE"], path: "/v1/models/{name}", to: "training" },
  { methods: ["GET", "POST"], path: "/v1/files", to: "files" },
  { methods: ["GET", "DELETE"], path: "/v1/files/{id}", to: "files" },
  { methods: ["GET"], path: "/v1/files/{id}/content", to: "files" },
  { methods: ["GET", "POST"], path: "/v1/fine_tuning/jobs", to: "training" },
  { methods: ["GET"], path: "/v1/fine_tuning/jobs/{id}", to: "training" },
  { methods: ["POST"], path: "/v1/fine_tuning/jobs/{id}/cancel", to: "training" },
  { methods: ["POST"], path: "/v1/fine_tuning/jobs/{id}/pause", to: "training" },
  { methods: ["POST"], path: "/v1/fine_tuning/jobs/{id}/resume", to: "training" },
  { methods: ["GET"], path: "/v1/fine_tuning/jobs/{id}/events", to: "training" },
  { methods: ["GET"], path: "/v1/fine_tuning/jobs/{id}/checkpoints", to: "training" },
];

/** All that the gateway lets through; it answers 404 to everything else. */
export function gatewayRoutes({ trains }: { readonly trains: boolean }): readonly GatewayRoute[] {
  return trains ? [...ALWAYS, ...TRAINING] : ALWAYS;
}

/** Model names hold slashes and colons, written as they are or encoded; `..` and `//` are tricks, not names. */
const NAME = String.raw`(?!\.)(?:[A-Za-z0-9_@+-]|\.(?!\.)|[/:](?![/.])|%2[Ff](?!%|\.)|%3[Aa])+`;
const ID = "[A-Za-z0-9_-]+";

/**
 * A PCRE for `METHOD PATH?QUERY` of the request line as it was sent, so that a path that only looks like the route after decoding is none.
 * `\z` and not `$`, which would let a line end pass.
 */
export function routePattern({ methods, path }: GatewayRoute): string {
  const escaped = path
    .replaceAll(".", String.raw`\.`)
    .replace("{id}", ID)
    .replace("{name}", NAME);
  return String.raw`^(?:${methods.join("|")}) ${escaped}(?:\?[!-~]*)?\z`;
}
