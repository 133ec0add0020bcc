/**
 * Every route that stands in the source of vLLM 0.32.0 (its `entrypoints`, of which a start serves a part) beyond those that the gateway lets
 * through, FastAPI's own, the trainer's, and what nginx or the gateway's folder might give away.
 */
export const OTHER_ROUTES = [
  "/",
  "/openapi.json",
  "/docs",
  "/docs/oauth2-redirect",
  "/redoc",
  "/version",
  "/ping",
  "/load",
  "/invocations",
  "/tokenize",
  "/detokenize",
  "/tokenizer_info",
  "/pooling",
  "/classify",
  "/score",
  "/rerank",
  "/generative_scoring",
  "/scale_elastic_ep",
  "/is_scaling_elastic_ep",
  "/adapters",
  "/sleep",
  "/wake_up",
  "/is_sleeping",
  "/reset_prefix_cache",
  "/reset_mm_cache",
  "/reset_encoder_cache",
  "/collective_rpc",
  "/server_info",
  "/start_profile",
  "/stop_profile",
  "/pause",
  "/resume",
  "/abort_requests",
  "/cohere/v2/chat",
  "/cohere/v2/chat/render",
  "/fault_tolerance/apply",
  "/fault_tolerance/status",
  "/finish_weight_update",
  "/get_world_size",
  "/init_weight_transfer_engine",
  "/is_paused",
  "/kv_event_sources",
  "/ready",
  "/readyz",
  "/release_kv_cache_memory",
  "/shutdown_weight_transfer_engine",
  "/start_draft_weight_update",
  "/start_weight_update",
  "/update_weight_version",
  "/update_weights",
  "/v1/chat/completions/batch",
  "/v1/chat/completions/derender",
  "/v1/completions/derender",
  "/v1/messages/render",
  "/v1/responses/render",
  "/v1/systemone",
  "/v2/embed",
  "/weight_checker",
  "/weight_info",
  "/inference/v1/generate",
  "/cohere/v2/embed",
  "/v1/load_lora_adapter",
  "/v1/unload_lora_adapter",
  "/v1/messages",
  "/v1/messages/count_tokens",
  "/v1/score",
  "/v1/rerank",
  "/v2/rerank",
  "/v1/audio/transcriptions",
  "/v1/audio/translations",
  "/v1/realtime",
  "/v1/completions/render",
  "/v1/chat/completions/render",
  "/health/status",
  "/health/deep",
  "/v1/adapters",
  "/v1/adapters/origin/name",
  "/unauthorized",
  "/error/401",
  "/stub",
  "/nginx_status",
  "/status.html",
  "/keys.conf",
  "/nginx.conf",
  "/pages/status.html",
] as const;

export const METHODS = [
  "GET",
  "HEAD",
  "POST",
  "PUT",
  "PATCH",
  "DELETE",
  "OPTIONS",
  "TRACE",
  "PROPFIND",
  "QUERY",
] as const;

/** Too much of one thing, from another host, with what it is answered; the numbers are those of the test. */
export const FLOODS = {
  slow: "200 clients that send a header drop by drop: cut off within 20 s, while a key is served",
  hold: "2000 connections that send nothing: a key is served beside them",
  guess: "100 guesses of a key at once: most are put off, and a key is served meanwhile",
} as const;

/** One line of the attack table. */
export interface Attack {
  readonly name: string;
  /** What is sent, as bytes. */
  readonly request: string;
  /** Statuses that keep the door closed; 0 is a connection closed without an answer. */
  readonly closed: readonly number[];
}

/** The header of a good key. */
export function withKey(key: string): string {
  return `Authorization: Bearer ${key}\r\n`;
}

function line(requestLine: string, headers: string): string {
  return `${requestLine}\r\n${headers}Connection: close\r\n\r\n`;
}

/** Paths that lead to a closed route once somebody behind the gateway decodes or tidies them up; all with a good key. */
const TRICKS = [
  "/v1/models/../../invocations",
  "/v1/models/..%2f..%2finvocations",
  "/v1/models/%2e%2e/%2e%2e/invocations",
  "/v1/models/..;/..;/invocations",
  "/v1/models/x%2F..%2F..%2Finvocations",
  "/v1/models//../invocations",
  "/v1/chat/completions/../../../invocations",
  "/v1/chat/completions%2f..%2f..%2f..%2finvocations",
  "/v1/chat/completions;/../../../invocations",
  "//invocations",
  "/./invocations",
  "/%69nvocations",
  "/invocations%00",
  "/v1%2fchat%2fcompletions",
  "/v1//chat/completions",
  "/v1/chat//completions",
  "//v1/chat/completions",
  "/v1/./chat/completions",
  "/v1/x/../chat/completions",
  "/V1/chat/completions",
  "/v1/Chat/Completions",
  "/v1/chat/completions/",
  "/v1/chat/completions%0a",
  "/v1/chat/completions%20",
  "/v1/chat/completions#x",
  "/v1/%63hat/completions",
  "/v1\\chat\\completions",
  "/v1/chat/completions.json",
  "/v1/files/..%2f..%2finvocations",
  "/v1/files/file-1/../../../invocations",
  "/v1/files/%2e%2e",
  "/v1/fine_tuning/jobs/../../load_lora_adapter",
  "/v1/load_lora_adapter?x=/v1/models",
  "/metrics/../invocations",
  "/status.json%2f..%2finvocations",
];

const SMUGGLED = "POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";

/** Everything that is tried with a good key, or with what looks like one. */
export function attacks(key: string): readonly Attack[] {
  const good = withKey(key);
  return [
    ...TRICKS.flatMap((path) =>
      ["GET", "POST"].map((method) => ({
        name: `path trick: ${method} ${path}`,
        request: line(`${method} ${path} HTTP/1.1`, `Host: x\r\n${good}Content-Length: 0\r\n`),
        closed: [400, 404],
      })),
    ),
    { name: "no key", request: line("GET /v1/models HTTP/1.1", "Host: x\r\n"), closed: [401] },
    {
      name: "the inner key's form as a pattern",
      request: line("GET /v1/models HTTP/1.1", "Host: x\r\nAuthorization: Bearer .*\r\n"),
      closed: [401],
    },
    {
      name: "a key with another after it",
      request: line("GET /v1/models HTTP/1.1", `Host: x\r\nAuthorization: Bearer ${key}x\r\n`),
      closed: [401],
    },
    {
      name: "a key in other letters",
      request: line("GET /v1/models HTTP/1.1", `Host: x\r\nAuthorization: Bearer ${key.toLowerCase()}\r\n`),
      closed: [401],
    },
    {
      name: "a key in the query",
      request: line(`GET /v1/models?api_key=${key} HTTP/1.1`, "Host: x\r\n"),
      closed: [401],
    },
    {
      name: "a key as basic authentication",
      request: line("GET /v1/models HTTP/1.1", `Host: x\r\nAuthorization: Basic ${btoa(`x:${key}`)}\r\n`),
      closed: [401],
    },
    { name: "HTTP/1.0 to a closed route", request: line("POST /invocations HTTP/1.0", good), closed: [404] },
    { name: "HTTP/0.9", request: "GET /invocations\r\n\r\n", closed: [0, 400, 404] },
    { name: "HTTP/2 by prior knowledge", request: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", closed: [400, 505] },
    {
      name: "an absolute address of a closed route",
      request: line("GET http://127.0.0.1/invocations HTTP/1.1", `Host: x\r\n${good}`),
      closed: [400, 404],
    },
    {
      name: "an absolute address as a proxy would take it",
      request: line("GET http://169.254.169.254/latest/meta-data/ HTTP/1.1", `Host: x\r\n${good}`),
      closed: [400, 404],
    },
    { name: "CONNECT", request: line("CONNECT 127.0.0.1:22 HTTP/1.1", `Host: x\r\n${good}`), closed: [400, 404, 405] },
    {
      name: "smuggling: length and chunks",
      request: `POST /v1/completions HTTP/1.1\r\nHost: x\r\n${good}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${SMUGGLED}`,
      closed: [400],
    },
    {
      name: "smuggling: two lengths",
      request: `POST /v1/completions HTTP/1.1\r\nHost: x\r\n${good}Content-Length: 2\r\nContent-Length: 70\r\n\r\n{}${SMUGGLED}`,
      closed: [400],
    },
    {
      name: "smuggling: chunks spelt in another way",
      request: `POST /v1/completions HTTP/1.1\r\nHost: x\r\n${good}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${SMUGGLED}`,
      closed: [400, 501],
    },
    {
      name: "smuggling: a blank before the colon",
      request: `POST /v1/completions HTTP/1.1\r\nHost: x\r\n${good}Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n${SMUGGLED}`,
      closed: [400],
    },
    {
      name: "a header with a bare line end",
      request: line("GET /invocations HTTP/1.1", `Host: x\nX-Y: 1\r\n${good}`),
      closed: [400, 404],
    },
    {
      name: "two hosts",
      request: line("GET /invocations HTTP/1.1", `Host: x\r\nHost: y\r\n${good}`),
      closed: [400],
    },
    {
      name: "headers beyond every limit",
      request: line("GET /v1/models HTTP/1.1", `Host: x\r\n${good}X-Long: ${"y".repeat(100_000)}\r\n`),
      closed: [400],
    },
    {
      name: "a protocol change",
      request: line("GET /invocations HTTP/1.1", `Host: x\r\n${good}Upgrade: h2c\r\n`),
      closed: [404],
    },
  ];
}
