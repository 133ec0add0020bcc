import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

/**
 * Where Tandem keeps what it knows on the user's machine: `$TANDEM_HOME`, else `$XDG_STATE_HOME/tandem`, else
 * `~/.local/state/tandem`. A relative path in either variable is ignored, as the XDG specification asks for.
 */
export function stateFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const chosen = environment["TANDEM_HOME"];
  if (chosen !== undefined && isAbsolute(chosen)) return chosen;
  const state = environment["XDG_STATE_HOME"];
  const base = state !== undefined && isAbsolute(state) ? state : join(homedir(), ".local", "state");
  return join(base, "tandem");
}
