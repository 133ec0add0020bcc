/** Secrets under 6 characters would blank out ordinary words. */
const LEAST_LENGTH = 6;
const MARK = "[secret]";

/** What secrets look like whoever holds them; the groups named `keep` stay. */
const PATTERNS: readonly RegExp[] = [
  /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$(?![\s\S]))/g,
  /(?<keep>\b(?:proxy-)?authorization["']?\s*[:=]\s*["']?)[^\r\n"']+/gi,
  /(?<keep>\b(?:Bearer|Basic) )[A-Za-z0-9+/=._~-]{8,}/g,
  /(?<keep>\b(?:set-)?cookie["']?\s*:\s*["']?)[^\r\n"']+/gi,
  /(?<keep>\b[a-z][a-z0-9+.-]*:\/\/[^\s:/@"']*:)[^\s/"']+(?=@)/gi,
  // Keys of this project, Hugging Face, OpenAI and Anthropic, NVIDIA, GitHub, GitLab, Slack, Google, Pulumi; AWS' key ids; JSON web tokens.
  /\btdm-[\w-]{16,}/g,
  /\b(?:hf|api_org)_[A-Za-z0-9]{16,}/g,
  /\bsk-[\w-]{16,}/g,
  /\bnvapi-[\w-]{16,}/g,
  /\b(?:gh[pousr]|github_pat)_\w{16,}/g,
  /\bglpat-[\w-]{16,}/g,
  /\bxox[abeoprs]-[\w-]{10,}/g,
  /\bAIza[\w-]{30,}/g,
  /\bpul-[0-9a-f]{32,}/g,
  /\b(?:AKIA|ASIA)[A-Z0-9]{16}\b/g,
  /\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*/g,
  // A name that says so, then its value: HF_TOKEN=…, "apiKey": "…", password: …
  /(?<keep>(?:password|passwd|passphrase|secret|secret_?access_?key|session_?token|token|api_?key|private_?key|hubToken)["']?\s*[:=]\s*["']?)(?!\[secret\])[^\s"',;&]{6,}/gi,
];

/** A function that replaces these secrets in a text, as they are and as JSON, URLs and base64 write them. */
export function redactor(secrets: readonly string[]): (text: string) => string {
  const forms = secrets
    .filter((secret) => secret.length >= LEAST_LENGTH)
    .flatMap((secret) => [
      secret,
      JSON.stringify(secret).slice(1, -1),
      encodeURIComponent(secret),
      Buffer.from(secret).toString("base64"),
    ]);
  // The longest first: one secret may be part of another.
  const known = [...new Set(forms)].sort((one, other) => other.length - one.length);
  return (text) => known.reduce((result, secret) => result.replaceAll(secret, MARK), text);
}

/** Replaces whatever looks like a secret, known or not. */
export function redactPatterns(text: string): string {
  return PATTERNS.reduce(
    (result, pattern) =>
      result.replace(pattern, (...parts: unknown[]) => {
        const groups = parts.at(-1);
        const keep = typeof groups === "object" && groups !== null && "keep" in groups ? String(groups.keep) : "";
        return keep + MARK;
      }),
    text,
  );
}
