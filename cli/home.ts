import { mkdirSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { stateFolder } from "../bootstrap/runner/state-folder";
import { CommandError, EXIT } from "./exit";

/** Where `tandem` keeps what it knows on the user's machine. Nothing of it lies in the package's own folder. */
export interface Home {
  readonly root: string;
  /** State of all stacks while no other backend is chosen. */
  readonly backend: string;
  /** File with the passphrase that encrypts secrets in state and settings; mode 0600. */
  readonly passphrase: string;
  /** One folder per environment: settings, locks, logs. */
  readonly workspaces: string;
}

/**
 * `$TANDEM_HOME`, else `$XDG_STATE_HOME/tandem`, else `~/.local/state/tandem`. Made on first use, for the user alone.
 * @throws CommandError when the folder can't be made
 */
export function openHome(environment: NodeJS.ProcessEnv = process.env): Home {
  const root = homeFolder(environment);
  const home: Home = {
    root,
    backend: join(root, "backend"),
    passphrase: join(root, "passphrase"),
    workspaces: join(root, "workspace"),
  };
  try {
    for (const folder of [home.root, home.backend, home.workspaces])
      mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new CommandError(
      `the folder for tandem's state can't be made — got ${root} (${reason}) — fix: set TANDEM_HOME to a folder you may write to`,
      EXIT.usage,
    );
  }
  return home;
}

/** The folder without making it. */
export function homeFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const chosen = environment["TANDEM_HOME"];
  if (chosen !== undefined && chosen !== "" && !isAbsolute(chosen)) {
    throw new CommandError(
      `TANDEM_HOME: not an absolute path — got ${chosen} — fix: TANDEM_HOME=$PWD/${chosen}`,
      EXIT.usage,
    );
  }
  return stateFolder(environment);
}
