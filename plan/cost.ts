import type { Plan } from "./plan";
import type { Problem } from "./problem";
import type { Settings } from "./settings";
import { durationSeconds } from "./time";

/**
 * What the stack costs at most. The budget shortens the time to live: price x hours never goes above it.
 * @param pricePerHourUsd of all machines together; undefined for machines that are the user's own
 */
export function planCost(
  settings: Pick<Settings, "ttl" | "budgetUsd">,
  pricePerHourUsd: number | undefined,
): Plan["cost"] {
  const asked = settings.ttl === undefined ? undefined : durationSeconds(settings.ttl);
  if (pricePerHourUsd === undefined) return asked === undefined ? {} : { ttlSeconds: asked };
  const affordable =
    settings.budgetUsd === undefined ? undefined : Math.floor((settings.budgetUsd / pricePerHourUsd) * 3600);
  const limits = [asked, affordable].filter((seconds) => seconds !== undefined);
  if (limits.length === 0) return { pricePerHourUsd };
  const ttlSeconds = Math.min(...limits);
  return { pricePerHourUsd, ttlSeconds, capUsd: Math.round((ttlSeconds / 3600) * pricePerHourUsd * 100) / 100 };
}

export function priceProblem(
  { maxPricePerHourUsd }: Pick<Settings, "maxPricePerHourUsd">,
  pricePerHourUsd: number | undefined,
): Problem | undefined {
  if (maxPricePerHourUsd === undefined || pricePerHourUsd === undefined || pricePerHourUsd <= maxPricePerHourUsd)
    return undefined;
  return {
    setting: "maxPricePerHourUsd",
    what: "the machine costs more than that",
    value: `${pricePerHourUsd} US dollars an hour`,
    allowed: `at most ${maxPricePerHourUsd}`,
    fix: "choose a cheaper machine or raise the limit",
  };
}
