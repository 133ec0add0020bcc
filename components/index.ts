/** The library: what a user's own Pulumi program imports. */
export type { Host } from "../bootstrap/runner/observe";
export { prepare, type Prepared, type PreparedHost } from "../bootstrap/runner/prepare";
export type { ProofResult } from "../bootstrap/runner/proof";
export type { Plan } from "../plan/plan";
export { parseSettings, type Settings, type SettingsInput } from "../plan/settings";
export { makeApiKeys, type ApiKeys } from "./api-keys";
export { Gateway, type GatewayArgs, type GatewayResult } from "./gateway";
export { ApiKey, HostStep, type HostStepArgs } from "./host-step";
export { ServingHost, type ServingHostArgs } from "./serving-host";
export { ServingPair, type ServingPairArgs } from "./serving-pair";
