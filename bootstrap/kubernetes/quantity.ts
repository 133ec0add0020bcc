const FACTORS: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** A quantity as Kubernetes writes it (`500m`, `16Gi`, `1e3`) as a number; 0 for what is none. */
export function quantity(text: string | number | undefined): number {
  const match = /^([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([numkKMGTPE]i?|)$/.exec(String(text ?? "0"));
  const factor = FACTORS[match?.[2] ?? "?"];
  return match === null || factor === undefined ? 0 : Number(match[1]) * factor;
}

export function quantityGiB(text: string | undefined): number {
  return quantity(text) / 2 ** 30;
}
