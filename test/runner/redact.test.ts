import { describe, expect, it } from "vitest";
import { redactor, redactPatterns } from "../../bootstrap/runner/redact";

describe("redaction", () => {
  it.each([
    ["key tdm-abcdefghijklmnopqrstuvwxyz0123456789 in use", "key [secret] in use"],
    ["HF_TOKEN=hf_abcdefghijklmnopqrstuvwxyz done", "HF_TOKEN=[secret] done"],
    ["curl -H 'Authorization: Bearer abc.def-ghi' x", "curl -H 'Authorization: [secret]' x"],
    ['{"hubToken":"abcdefgh","model":"m"}', '{"hubToken":"[secret]","model":"m"}'],
    ["password: correct-horse", "password: [secret]"],
    ["https://u:pa55word@host/x", "https://u:[secret]@host/x"],
    ["AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLE", "AWS_SECRET_ACCESS_KEY=[secret]"],
    ["-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nnext", "[secret]\nnext"],
    ["a key that was cut off: -----BEGIN PRIVATE KEY-----\nMIIabc", "a key that was cut off: [secret]"],
  ])("takes the secret out of %s", (text, expected) => {
    expect(redactPatterns(text)).toBe(expected);
  });

  it.each([
    "KV cache 65,536 tokens",
    "max_num_batched_tokens=8192, tokenizer='x'",
    "GPU-08ced166-92fb-d8c1-600d-17fbe5a117e4",
    "proof: 8 tokens in 0.545 s",
    "http://127.0.0.1:8000/v1 answers",
    "sha256:d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
  ])("leaves alone: %s", (text) => {
    expect(redactPatterns(text)).toBe(text);
  });

  it("knows a given secret in JSON, in a URL and in base64", () => {
    const secret = 'p"a/s s+1';
    const text = [
      secret,
      JSON.stringify({ secret }),
      encodeURIComponent(secret),
      Buffer.from(secret).toString("base64"),
    ].join(" | ");
    expect(redactor([secret])(text)).toBe('[secret] | {"secret":"[secret]"} | [secret] | [secret]');
  });
});
