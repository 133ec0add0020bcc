import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { SshTarget } from "../../bootstrap/runner/request";
import { waitForHost } from "../../bootstrap/runner/ssh";
import { connect, remember, type Connection } from "../../bootstrap/runner/ssh-connection";
import { connectionFiles } from "../../bootstrap/runner/ssh-folder";
import type { ConnectionRecord } from "../../bootstrap/runner/ssh-probe";
import { freePort } from "../fixtures/free-port";
import { answerOf, until } from "../host/host";

const TARGET: SshTarget = { kind: "ssh", name: "one", host: "127.0.0.1", hostKeys: "known-hosts", sudo: "auto" };
const RECORD: ConnectionRecord = { user: "ops", isRoot: true, asRoot: true, bootId: "this boot", cloudInitRuns: true };

let home: string;
beforeEach(() => {
  home = mkdtempSync(path.join(tmpdir(), "tdm-"));
  vi.stubEnv("TANDEM_HOME", home);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(home, { recursive: true });
});

/** A connection as another process has opened it. */
function opened(): Connection {
  const files = connectionFiles(TARGET);
  writeFileSync(files.record, JSON.stringify(RECORD));
  return { target: TARGET, files, record: RECORD };
}
const recordOf = ({ files }: Connection) => JSON.parse(readFileSync(files.record, "utf8")) as ConnectionRecord;

describe("what is remembered of a host", () => {
  it("is whole at any time, also while two processes remember something", async () => {
    const connection = opened();
    const rememberer = (found: Partial<ConnectionRecord>) =>
      answerOf(
        spawn(process.execPath, [
          "--import",
          "tsx",
          "-e",
          `
          const { readFileSync } = process.getBuiltinModule("node:fs");
          const connection = ${JSON.stringify(connection)};
          import(${JSON.stringify(path.resolve(__dirname, "../../bootstrap/runner/ssh-connection.ts"))}).then(({ remember }) => {
            for (let round = 0; round < 800; round++) {
              remember(connection, ${JSON.stringify(found)});
              JSON.parse(readFileSync(connection.files.record, "utf8"));
            }
          });`,
        ]),
      );
    const scripts = "s".repeat(10_000);
    const answers = await Promise.all([rememberer({ lacksScripts: scripts }), rememberer({ cloudInitRuns: false })]);
    expect(answers).toEqual([0, 1].map(() => ({ code: 0, stdout: "", stderr: "" })));
    expect(readdirSync(path.dirname(connection.files.record))).toEqual([path.basename(connection.files.record)]);
  });

  it("takes nothing away that another process found out meanwhile", () => {
    const connection = opened();
    remember(connection, { cloudInitRuns: false });
    expect(remember(connection, { lacksScripts: "digest" }).record).toMatchObject({ lacksScripts: "digest" });
    expect(recordOf(connection)).toEqual({ ...RECORD, cloudInitRuns: false, lacksScripts: "digest" });
  });

  it("is not what a process still knows of the boot before", () => {
    const connection = opened();
    const restarted = { ...RECORD, bootId: "the next boot" };
    writeFileSync(connection.files.record, JSON.stringify(restarted));
    remember(connection, { lacksScripts: undefined });
    expect(recordOf(connection)).toEqual(restarted);
  });
});

describe("a connection that is being opened", () => {
  it("fails by its own reason, also when another process takes its turn because this one was still for too long", async () => {
    const bin = path.join(home, "bin");
    mkdirSync(bin);
    writeFileSync(path.join(bin, "ssh"), "#!/bin/sh\nsleep 2.5\nexit 255\n", { mode: 0o755 });
    vi.stubEnv("PATH", `${bin}:${process.env["PATH"]}`);
    const turn = `${connectionFiles(TARGET).socket}.lock`;
    const opening = connect(TARGET, () => undefined);
    opening.catch(() => undefined);
    await until("it has its turn", () => existsSync(turn));
    utimesSync(turn, new Date(), new Date(Date.now() + 60_000));
    await expect(opening).rejects.toThrow("one (127.0.0.1) can't be reached");
    rmSync(turn, { recursive: true, force: true });
  });

  it("has its configuration whole at any time, also while ssh is asked for the user's own", async () => {
    const bin = path.join(home, "bin");
    mkdirSync(bin);
    const target: SshTarget = { ...TARGET, hostKeys: "accept-new" };
    const { config } = connectionFiles(target);
    const ssh = `#!/bin/sh\ncase "$*" in -G*) cp '${config}' '${home}/seen'; echo 'userknownhostsfile none' ;; *) exit 255 ;; esac\n`;
    writeFileSync(path.join(bin, "ssh"), ssh, { mode: 0o755 });
    vi.stubEnv("PATH", `${bin}:${process.env["PATH"]}`);
    writeFileSync(config, "BatchMode yes\n");
    await expect(connect(target, () => undefined)).rejects.toThrow("can't be reached");
    expect(readFileSync(path.join(home, "seen"), "utf8")).toContain("BatchMode yes");
    expect(readFileSync(config, "utf8")).toContain("StrictHostKeyChecking accept-new");
  });

  it("is waited for no longer than somebody wants it", async () => {
    const over = new AbortController();
    const target = { ...TARGET, port: await freePort() };
    const waiting = waitForHost(target, 60, () => undefined, undefined, over.signal);
    const ended = expect(waiting).rejects.toThrow("aborted");
    over.abort();
    await ended;
  });
});
