import { randomBytes } from "node:crypto";
import { chmodSync, linkSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { CommandError, EXIT } from "./exit";
import type { Home } from "./home";

/** 256 bits: guessing is hopeless whatever the rate. */
const PASSPHRASE_BYTES = 32;
const READABLE_BY_OTHERS = 0o077;

/** The variables that tell Pulumi the passphrase, and where it comes from in words. */
export interface Passphrase {
  readonly variables: Readonly<Record<string, string>>;
  readonly source: string;
}

/**
 * The user's own `PULUMI_CONFIG_PASSPHRASE` or `PULUMI_CONFIG_PASSPHRASE_FILE` if one is set, else the file of the home.
 * That file is made when nothing was encrypted with it yet, and never replaced.
 * @param isNeeded whether settings or state hold something encrypted already
 * @throws CommandError when the file is gone although something was encrypted with it
 */
export function openPassphrase(home: Home, isNeeded: boolean, say: (line: string) => void): Passphrase {
  for (const name of ["PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"] as const) {
    const value = process.env[name];
    // An empty passphrase is a passphrase for Pulumi; an empty file name is none.
    const isSet = value !== undefined && (name === "PULUMI_CONFIG_PASSPHRASE" || value !== "");
    if (isSet) return { variables: { [name]: value }, source: name };
  }
  if (!makePassphrase(home.passphrase, isNeeded)) {
    throw new CommandError(
      `the passphrase file is gone: ${home.passphrase}\n` +
        `  The secrets of this environment were encrypted with it; nothing was changed.\n` +
        `  fix: put the file back, or set PULUMI_CONFIG_PASSPHRASE to what it held. If it is lost for good: tandem destroy --forget`,
      EXIT.usage,
    );
  }
  const mode = statSync(home.passphrase).mode;
  if ((mode & READABLE_BY_OTHERS) !== 0) {
    chmodSync(home.passphrase, 0o600);
    say(`${home.passphrase} could be read by other users: now by you alone`);
  }
  return { variables: { PULUMI_CONFIG_PASSPHRASE_FILE: home.passphrase }, source: home.passphrase };
}

/** Makes the file if it may be made. Two runs at once agree on one passphrase: the name appears with its content, once. */
function makePassphrase(path: string, isNeeded: boolean): boolean {
  if (exists(path)) return true;
  if (isNeeded) return false;
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, randomBytes(PASSPHRASE_BYTES).toString("base64url"), { mode: 0o600 });
  try {
    linkSync(draft, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  return true;
}

function exists(path: string): boolean {
  try {
    return readFileSync(path).length > 0;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw new CommandError(
      `the passphrase file can't be read: ${path} (${String((error as NodeJS.ErrnoException).code)})`,
      EXIT.usage,
    );
  }
}

/** Whether Pulumi's text says that the passphrase does not fit. */
export function isWrongPassphrase(text: string): boolean {
  return /incorrect passphrase|passphrase must be set|unable to find either `?PULUMI_CONFIG_PASSPHRASE/i.test(text);
}

/** What to tell a user whose passphrase does not fit. */
export function wrongPassphrase(source: string, settingsFile: string): CommandError {
  return new CommandError(
    `the passphrase does not fit this environment's secrets — it came from ${source}\n` +
      `  They were encrypted with another one (the salt is in ${settingsFile}); nothing was changed.\n` +
      `  fix: put the passphrase of the first \`tandem up\` back there, or unset PULUMI_CONFIG_PASSPHRASE(_FILE) if another was meant.\n` +
      `  If it is lost for good: tandem destroy --forget`,
    EXIT.usage,
  );
}
