import { gatewayErrors } from "./gateway-errors";
import { gatewayRoutes, routePattern, type GatewayTarget } from "./gateway-routes";

/** What the gateway is to be, as far as its configuration goes. */
export interface Gateway {
  /** Address to listen on. */
  readonly address: string;
  readonly port: number;
  readonly tls: boolean;
  /** Who may connect at all; empty for everybody. The host itself always may. */
  readonly allowedCidrs: readonly string[];
  /** Where vLLM answers, `address:port`; several share the load. */
  readonly serving: readonly string[];
  /** Where the trainer answers; absent where nothing trains. */
  readonly training?: string;
  readonly limits: GatewayLimits;
}

export interface GatewayLimits {
  /** For each key. */
  readonly requestsPerSecond: number;
  /** Requests of one key that are being answered at once. */
  readonly connections: number;
  /** The largest request that is no file. */
  readonly bodyMiB: number;
  readonly fileMiB: number;
}

/** Requests a second that one address may send to the routes without a key; five times as many may come at once. */
const OPEN_PER_SECOND = 20;
/** A generation may think for long before its next token. */
const ANSWER_SECONDS = 3600;
/** Below the 5 s after which vLLM and the trainer close an idle connection: a request on one that is being closed would fail. */
const IDLE_UPSTREAM_SECONDS = 4;

/**
 * The whole configuration of nginx as text: what is not in the allow-list is answered with 404, without a key with 401.
 * `{run}` stands for the folder of the running gateway, which only its host knows, and `{version}` for a hash of all that is in it;
 * `keys.conf` in it holds the keys, `var` is the only place that the gateway writes to.
 */
export function gatewayConfiguration(gateway: Gateway): string {
  return `daemon off;
pid {run}/var/nginx.pid;
worker_processes 2;
error_log stderr warn;
events {
  worker_connections 16384;
}
http {
${indent([...base(), ...logs(), ...keysAndLimits(gateway), ...routes(gateway), ...upstreams(gateway), ...server(gateway)])}
}
`;
}

function base(): string[] {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return [
    ...temporary.map((kind) => `${kind}_temp_path {run}/var/tmp;`),
    "server_tokens off;",
    "default_type application/octet-stream;",
    "tcp_nodelay on;",
    "reset_timedout_connection on;",
    // A client that sends its headers or its body drop by drop.
    "client_header_timeout 10s;",
    "client_body_timeout 30s;",
    "send_timeout 60s;",
    "keepalive_timeout 75s;",
    "keepalive_requests 10000;",
    "client_header_buffer_size 2k;",
    "large_client_header_buffers 4 16k;",
    "client_body_buffer_size 1m;",
    "variables_hash_max_size 2048;",
  ];
}

/** Who did what: the key's name, never the key. Without the query, which a careless client may put a key into. */
function logs(): string[] {
  const fields = {
    time: "$time_iso8601",
    address: "$remote_addr",
    key: "$tandem_client",
    method: "$request_method",
    path: "$tandem_path",
    status: "$status",
    bytes: "$body_bytes_sent",
    seconds: "$request_time",
    upstream: "$upstream_addr",
    id: "$tandem_request_id",
  };
  const format = Object.entries(fields).map(([name, variable]) => `"${name}":"${variable}"`);
  return [
    String.raw`map $request_uri $tandem_path { "~^(?<tandem_bare>[^?]*)" $tandem_bare; }`,
    `log_format tandem escape=json '{${format.join(",")}}';`,
    "access_log /dev/stdout tandem;",
  ];
}

function keysAndLimits({ allowedCidrs, limits }: Gateway): string[] {
  const everybody = allowedCidrs.length === 0;
  return [
    "include {run}/keys.conf;",
    "map $http_x_request_id $tandem_request_id {",
    "  default $request_id;",
    String.raw`  "~^[A-Za-z0-9._-]{1,64}\z" $http_x_request_id;`,
    "}",
    "geo $tandem_is_stranger {",
    `  default ${everybody ? 0 : 1};`,
    ...["127.0.0.0/8", "::1", ...allowedCidrs].map((range) => `  ${range} 0;`),
    "}",
    // Only requests with a wrong key, or none, are counted by address.
    'map $tandem_client $tandem_guesser { default ""; "" $binary_remote_addr; }',
    "limit_req_zone $tandem_guesser zone=guesses:10m rate=1r/s;",
    `limit_req_zone $tandem_client zone=requests:1m rate=${limits.requestsPerSecond}r/s;`,
    // Routes without a key: a load balancer's probes are let through, a flood is not.
    `limit_req_zone $binary_remote_addr zone=open:10m rate=${OPEN_PER_SECOND}r/s;`,
    "limit_conn_zone $tandem_client zone=connections:1m;",
    // Below what is logged: the line would hold the query, and a flood would fill the log. The access log tells of each.
    "limit_req_log_level notice;",
    "limit_conn_log_level notice;",
    "limit_req_status 429;",
    "limit_conn_status 429;",
  ];
}

function routes({ training }: Gateway): string[] {
  const list = gatewayRoutes({ trains: training !== undefined });
  return [
    'map "$request_method $request_uri" $tandem_route {',
    '  default "";',
    ...list.map((route) => `  "~${routePattern(route)}" ${route.to};`),
    "}",
  ];
}

function upstreams({ serving, training }: Gateway): string[] {
  return [
    ...upstream("serving", serving),
    ...(training === undefined ? [] : upstream("training", [training])),
    "upstream tandem_monitor { server unix:{run}/var/monitor.sock; }",
  ];
}

/** The least busy one is asked; one that fails twice is left alone for five seconds. */
function upstream(name: string, addresses: readonly string[]): string[] {
  return [
    `upstream tandem_${name} {`,
    `  zone tandem_${name} 128k;`,
    "  least_conn;",
    ...addresses.map((address) => `  server ${address} max_fails=2 fail_timeout=5s;`),
    "  keepalive 64;",
    "  keepalive_requests 10000;",
    `  keepalive_timeout ${IDLE_UPSTREAM_SECONDS}s;`,
    "}",
  ];
}

function server(gateway: Gateway): string[] {
  const { address, port, tls, limits, training } = gateway;
  return [
    "server {",
    ...indented([
      `listen ${address}:${port}${tls ? " ssl" : ""} backlog=4096;`,
      ...(tls ? TLS : []),
      "server_name _;",
      "root {run}/pages;",
      // Strangers learn nothing but that something speaks TLS here; also what is no HTTP comes through this.
      "if ($tandem_is_stranger) { return 444; }",
      `limit_req zone=requests burst=${limits.requestsPerSecond * 2} nodelay;`,
      `limit_conn connections ${limits.connections};`,
      `client_max_body_size ${limits.bodyMiB}m;`,
      "add_header X-Request-ID $tandem_request_id always;",
      ...PROXY,
      ...location("= /health", "health", ["proxy_pass http://tandem_serving;"]),
      ...location("/", "serving", ["proxy_pass http://tandem_serving;"]),
      ...(training === undefined ? [] : trainingLocations(limits)),
      ...location("= /status", "page", PAGE),
      ...location("= /status.json", "monitor", ["proxy_pass http://tandem_monitor;"]),
      ...location("= /metrics", "monitor", ["proxy_pass http://tandem_monitor;"]),
      ...gatewayErrors(),
    ]),
    "}",
    // For the monitor alone.
    "server {",
    "  listen unix:{run}/var/nginx.sock;",
    "  access_log off;",
    "  location = /stub { stub_status; }",
    // Tells when a reload has come through.
    '  location = /version { return 200 "{version}"; }',
    "}",
  ];
}

function trainingLocations({ fileMiB }: GatewayLimits): string[] {
  const pass = "proxy_pass http://tandem_training;";
  return [
    // With its exact neighbour: else nginx would answer with a redirection from one to the other.
    ...location("= /v1/models", "serving", ["proxy_pass http://tandem_serving;"]),
    ...location("/v1/models/", "training", [pass]),
    ...location("/v1/fine_tuning", "training", [pass]),
    // A file goes straight through: it may be larger than the memory that bodies are kept in.
    ...location("/v1/files", "files", [pass, `client_max_body_size ${fileMiB}m;`, "proxy_request_buffering off;"]),
  ];
}

/** The route is decided by the map alone; a location only says how it is passed on. */
function location(match: string, to: GatewayTarget, how: readonly string[]): string[] {
  const isOpen = to === "health" || to === "page";
  return [
    `location ${match} {`,
    `  if ($tandem_route != ${to}) { return 404; }`,
    // Refused in the content phase, so that the limit for guesses comes before it.
    ...(isOpen
      ? [`  limit_req zone=open burst=${OPEN_PER_SECOND * 5} nodelay;`]
      : ['  if ($tandem_client = "") { rewrite ^ /unauthorized last; }']),
    ...how.map((line) => `  ${line}`),
    "}",
  ];
}

/** The caller's key stays here: what is behind has one of its own. Nothing is kept back, so that streams arrive as they are made. */
const PROXY = [
  "proxy_http_version 1.1;",
  "proxy_set_header Host localhost;",
  'proxy_set_header Connection "";',
  'proxy_set_header Upgrade "";',
  "proxy_set_header Authorization $tandem_upstream_key;",
  "proxy_set_header X-Request-ID $tandem_request_id;",
  "proxy_set_header X-Tandem-Key $tandem_client;",
  "proxy_set_header X-Forwarded-For $remote_addr;",
  "proxy_set_header X-Forwarded-Proto $scheme;",
  "proxy_hide_header X-Request-ID;",
  "proxy_hide_header Server;",
  "proxy_buffering off;",
  "proxy_max_temp_file_size 0;",
  "proxy_connect_timeout 2s;",
  "proxy_send_timeout 60s;",
  `proxy_read_timeout ${ANSWER_SECONDS}s;`,
  "proxy_next_upstream error timeout;",
  "proxy_next_upstream_tries 3;",
  "proxy_redirect off;",
];

const PAGE = [
  "default_type text/html;",
  "try_files /status.html =404;",
  "add_header X-Request-ID $tandem_request_id always;",
  "add_header Cache-Control no-store always;",
  "add_header X-Content-Type-Options nosniff always;",
  "add_header Referrer-Policy no-referrer always;",
  `add_header Content-Security-Policy "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" always;`,
];

const TLS = [
  "ssl_certificate {run}/tls.crt;",
  "ssl_certificate_key {run}/tls.key;",
  "ssl_protocols TLSv1.2 TLSv1.3;",
  "ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;",
  "ssl_prefer_server_ciphers on;",
  "ssl_session_cache shared:tls:4m;",
  "ssl_session_tickets off;",
];

function indent(lines: readonly string[]): string {
  return indented(lines).join("\n");
}

function indented(lines: readonly string[]): string[] {
  return lines.map((line) => `  ${line}`);
}
