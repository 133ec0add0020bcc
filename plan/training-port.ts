import type { Settings } from "./settings";

/** Port of the training API: the setting, else the one after vLLM's. */
export function trainingPort({ port, training }: Pick<Settings, "port" | "training">): number {
  return training.port ?? port + 1;
}
