import type * as pulumi from "@pulumi/pulumi";
import type { Settings } from "../plan/settings";
import { ApiKey } from "./host-step";

/** The keys of a stack. */
export interface ApiKeys {
  /** By the name that the access log tells. */
  readonly named: Readonly<Record<string, ApiKey>>;
  /** The key called `default`. */
  readonly value: pulumi.Output<string>;
  /** What vLLM and the trainer ask for. Behind a gateway it never leaves the host; without one it is the default key. */
  readonly upstream: pulumi.Output<string>;
}

/** Makes each key once; a raised number in `gateway.keys` makes the next one of that name. */
export function makeApiKeys(name: string, { gateway }: Settings, opts: pulumi.CustomResourceOptions): ApiKeys {
  const make = (who: string, generation: number) => {
    const called = `${name}-key${who === "default" ? "" : `-${who}`}`;
    return new ApiKey(generation === 1 ? called : `${called}.${generation}`, opts);
  };
  const standard = make("default", gateway.keys["default"] ?? 1);
  if (!gateway.enabled) return { named: { default: standard }, value: standard.value, upstream: standard.value };
  const others = Object.entries(gateway.keys).filter(([who]) => who !== "default");
  return {
    named: {
      default: standard,
      ...Object.fromEntries(others.map(([who, generation]) => [who, make(who, generation)])),
    },
    value: standard.value,
    upstream: new ApiKey(`${name}-upstream-key`, opts).value,
  };
}
