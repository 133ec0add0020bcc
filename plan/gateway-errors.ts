interface GatewayError {
  /** nginx's own statuses that end in this answer. */
  readonly from: readonly number[];
  readonly status: number;
  readonly type: string;
  readonly code: string;
  readonly message: string;
  readonly retryAfterSeconds?: number;
}

const ERRORS: readonly GatewayError[] = [
  {
    from: [400, 494, 495, 496, 497],
    status: 400,
    type: "invalid_request_error",
    code: "bad_request",
    message: "the request is not proper HTTP",
  },
  {
    from: [401],
    status: 401,
    type: "invalid_request_error",
    code: "invalid_api_key",
    message: "no API key, or a wrong one - fix: send the header Authorization: Bearer KEY",
  },
  {
    from: [404, 405],
    status: 404,
    type: "invalid_request_error",
    code: "not_found",
    message: "no such route, or not by this method",
  },
  {
    from: [413],
    status: 413,
    type: "invalid_request_error",
    code: "too_large",
    message: "the request is too large - fix: send less, or raise gateway.limits",
  },
  {
    from: [429],
    status: 429,
    type: "rate_limit_error",
    code: "rate_limit_exceeded",
    message: "too many requests at once - fix: try again in a second",
    retryAfterSeconds: 1,
  },
  {
    from: [502, 503, 504],
    status: 503,
    type: "server_error",
    code: "unavailable",
    message: "the service behind the gateway does not answer now - fix: try again in a moment",
    retryAfterSeconds: 10,
  },
];

/** What the gateway itself says no to, in the form in which OpenAI's clients read errors. Answers of vLLM and the trainer pass as they are. */
export function gatewayErrors(): string[] {
  return [
    ...ERRORS.flatMap(({ from, status, type, code, message, retryAfterSeconds }) => {
      const body = JSON.stringify({ error: { message, type, param: null, code } });
      return [
        `error_page ${from.join(" ")} =${status} /error/${status};`,
        `location = /error/${status} {`,
        "  internal;",
        "  default_type application/json;",
        "  add_header X-Request-ID $tandem_request_id always;",
        ...(retryAfterSeconds === undefined ? [] : [`  add_header Retry-After ${retryAfterSeconds} always;`]),
        ...(status === 401 ? ["  add_header WWW-Authenticate Bearer always;"] : []),
        `  return ${status} '${body}';`,
        "}",
      ];
    }),
    // Reached by a rewrite only. The limit is passed before the file that is not there is looked for.
    "location = /unauthorized {",
    "  internal;",
    "  limit_req zone=guesses burst=20 nodelay;",
    "  try_files /nothing =401;",
    "}",
  ];
}
