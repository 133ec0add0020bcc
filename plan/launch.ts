import type { HostFacts } from "./facts";
import type { Plan } from "./plan";

/** What is known of an installed vLLM. */
export interface RuntimeFacts {
  /** Path of its Python interpreter. */
  readonly python: string;
  readonly vllmVersion: string;
  readonly device: "cuda" | "cpu";
  /** Option names found in its `--help=all`, e.g. `--kv-cache-memory-bytes`. */
  readonly flags: readonly string[];
}

export interface LaunchOptions {
  /** Directory of the weights on the host. */
  readonly modelPath: string;
  /** Name that clients call the model by. */
  readonly servedModelName: string;
  /** Address to listen on. */
  readonly host: string;
  readonly port: number;
  readonly extraArgs: readonly string[];
  readonly extraEnv: Readonly<Record<string, string>>;
  readonly facts: HostFacts;
}

export interface Launch {
  /** Starts with the interpreter. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** What the runtime can't do as planned. */
  readonly warnings: readonly string[];
}
