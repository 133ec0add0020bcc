/** The library: what a user's own Pulumi program imports. */
export { prepare, type Host, type Prepared } from "../bootstrap/runner/prepare";
export type { ProofResult } from "../bootstrap/runner/proof";
export type { Plan } from "../plan/plan";
export { parseSettings, type Settings, type SettingsInput } from "../plan/settings";
export { ApiKey, HostStep, type HostStepArgs } from "./host-step";
export { ServingPair, type ServingPairArgs } from "./serving-pair";
