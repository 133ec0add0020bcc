/** What the model hub answers about a model's files. */
export type HubAnswer =
  | { readonly kind: "ok"; readonly config: unknown }
  | { readonly kind: "gated" }
  | { readonly kind: "missing"; readonly what: "model" | "revision" | "config.json" }
  | { readonly kind: "unreachable"; readonly reason: string };

const DEFAULT_ENDPOINT = "https://huggingface.co";

/**
 * Fetches a model's `config.json` from the hub: its answer tells whether the model exists and whether this account may have it.
 * Follows `HF_ENDPOINT`, like the hub's own client. Never throws.
 * @param limitSeconds after which the hub counts as unreachable
 */
export async function askHub(
  model: string,
  revision: string,
  token: string | undefined,
  limitSeconds = 10,
): Promise<HubAnswer> {
  const endpoint = (process.env["HF_ENDPOINT"] ?? DEFAULT_ENDPOINT).replace(/\/+$/, "");
  const path = model.split("/").map(encodeURIComponent).join("/");
  const url = `${endpoint}/${path}/resolve/${encodeURIComponent(revision)}/config.json`;
  try {
    const response = await fetch(url, {
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(limitSeconds * 1000),
    });
    if (response.ok) return { kind: "ok", config: await response.json() };
    return explainRefusal(response.status, response.headers.get("x-error-code"));
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    return { kind: "unreachable", reason: cause instanceof Error ? cause.message : String(cause) };
  }
}

/** The hub names its reason in `X-Error-Code`; without a token it says 401 for a model that does not exist, too. */
function explainRefusal(status: number, errorCode: string | null): HubAnswer {
  switch (errorCode) {
    case "GatedRepo":
      return { kind: "gated" };
    case "RepoNotFound":
      return { kind: "missing", what: "model" };
    case "RevisionNotFound":
      return { kind: "missing", what: "revision" };
    case "EntryNotFound":
      return { kind: "missing", what: "config.json" };
    default:
      if (status === 403) return { kind: "gated" };
      if (status === 401 || status === 404) return { kind: "missing", what: "model" };
      return { kind: "unreachable", reason: `the hub answered ${status}` };
  }
}
