import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { ProblemsError } from "../../plan/problem";
import { stateFolder } from "../runner/state-folder";

/** A key pair to log in to machines with. */
export interface SshKey {
  /** Path of the private key. */
  readonly identityFile: string;
  readonly publicKey: string;
}

/**
 * The key of the settings, or the stack's own, which is made where there is none yet.
 * @throws ProblemsError when the public key of a given one can't be read
 */
export function findSshKey(stack: string, identityFile: string | undefined): SshKey {
  if (identityFile === undefined) return ownKey(stack);
  const file = identityFile.startsWith("~/") ? join(homedir(), identityFile.slice(2)) : identityFile;
  if (!existsSync(file) || !existsSync(`${file}.pub`)) {
    const missing = existsSync(file) ? `${file}.pub` : file;
    const fix = existsSync(file)
      ? `ssh-keygen -y -f ${file} >${file}.pub`
      : "leave it out: a key is made for the stack";
    throw new ProblemsError([{ setting: "ec2.identityFile", what: "there is no such file", value: missing, fix }]);
  }
  return { identityFile: file, publicKey: readPublic(file) };
}

/** Removes the key that was made for the stack. */
export function forgetSshKey(stack: string): void {
  for (const ending of ["", ".pub"]) rmSync(`${ownKeyFile(stack)}${ending}`, { force: true });
}

function ownKey(stack: string): SshKey {
  const file = ownKeyFile(stack);
  if (!existsSync(`${file}.pub`)) {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    // A half-made pair of a killed run would make ssh-keygen ask.
    forgetSshKey(stack);
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", `tandem-${stack}`, "-f", file], {
      stdio: "pipe",
      timeout: 20_000,
    });
  }
  return { identityFile: file, publicKey: readPublic(file) };
}

function ownKeyFile(stack: string): string {
  return join(stateFolder(), "keys", stack);
}

/** Without its comment, which may name the user's machine. */
function readPublic(file: string): string {
  return readFileSync(`${file}.pub`, "utf8").trim().split(" ").slice(0, 2).join(" ");
}
