/** vLLM rounds the cache to blocks; anything beyond that means that it did not do what it was told. */
const KV_PASS_SHARE = 0.02;
const KV_WARN_SHARE = 0.1;

export function kvWithin(planned: number, found: number): "pass" | "warn" | "fail" {
  const missing = (planned - found) / planned;
  if (missing > KV_WARN_SHARE) return "fail";
  return Math.abs(missing) > KV_PASS_SHARE ? "warn" : "pass";
}

export function percent(part: number, whole: number): string {
  return `${((part / whole) * 100).toFixed(1)} %`;
}
