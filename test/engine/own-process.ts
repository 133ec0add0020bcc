import { execFile } from "node:child_process";
import * as path from "node:path";

const root = path.join(__dirname, "../..");

export interface OwnProcess {
  readonly status: number;
  readonly lines: readonly string[];
  readonly error: string;
}

/** Runs a script of ours in a process with a home, a cache (`folder/cache`) and a PATH of its own; it finds `dist/` below it. */
export async function inOwnProcess(script: string, at: { folder: string; PATH: string }): Promise<OwnProcess> {
  const { folder, PATH } = at;
  const env = {
    ...(process.env["TANDEM_TEST_RUN"] === undefined ? {} : { TANDEM_TEST_RUN: process.env["TANDEM_TEST_RUN"] }),
    PATH,
    HOME: folder,
    XDG_CACHE_HOME: path.join(folder, "cache"),
  };
  return new Promise((resolve) => {
    execFile(process.execPath, ["-e", script], { cwd: root, env, timeout: 60_000 }, (error, stdout, stderr) => {
      const status = error === null ? 0 : Number(error.code ?? -1);
      resolve({ status, lines: stdout.trim().split("\n"), error: stderr });
    });
  });
}
