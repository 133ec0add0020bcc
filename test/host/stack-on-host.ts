import { spawn } from "node:child_process";
import { chownSync, cpSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import type { TestHost } from "../fixtures/hosts/hosts";
import { type Answer, answerOf, type Check, HOST_SCRIPTS, type Request } from "./host";

/** Who works on the host: root, `ops` through sudo, or `guest`, who has no rights of root's. */
export type Worker = "root" | "ops" | "guest";

/** One stack on a real host: the real scripts, put where the runner puts them, called over OpenSSH. */
export class StackOnHost {
  readonly hostDir: string;
  readonly scripts: string;
  readonly stackDir: string;

  /** @param steps scripts of the test's own beside the real ones, by step name */
  constructor(
    readonly host: TestHost,
    readonly worker: Worker,
    readonly stack = "one",
    private readonly steps: Readonly<Record<string, string>> = {},
  ) {
    this.hostDir = worker === "guest" ? "/home/guest/.local/state/tandem/host" : "/var/lib/tandem";
    this.scripts = `${this.hostDir}/scripts/test`;
    this.stackDir = `${this.hostDir}/stacks/${stack}`;
  }

  /** Puts the scripts there, as a client does before its first call. */
  putScripts(): void {
    const folder = path.join(this.host.root, this.scripts);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    cpSync(HOST_SCRIPTS, folder, { recursive: true });
    for (const [step, text] of Object.entries(this.steps)) writeFileSync(path.join(folder, `${step}.sh`), text);
    if (this.worker !== "guest") return;
    const home = path.join(this.host.root, "home/guest");
    const { uid, gid } = statSync(home);
    let place = home;
    for (const part of path.relative(home, folder).split("/")) chownSync((place = path.join(place, part)), uid, gid);
  }

  /** Starts `work.sh` over SSH and hands out the client's process. */
  start(argv: readonly string[], { values = {}, document = {}, secrets = {} }: Request = {}) {
    const sudo = this.worker === "ops" ? "sudo -n " : "";
    const command = `${sudo}env TANDEM_STACK=${this.stack} sh ${this.scripts}/work.sh ${argv.join(" ")}`;
    const child = spawn("ssh", [...this.host.sshOptions(), `${this.worker}@${this.host.address}`, command]);
    child.stdin.on("error", () => undefined);
    const defaults = { TANDEM_PYTHON: "python3", TANDEM_TIMEOUT_SECONDS: "100" };
    child.stdin.end(
      [{ ...defaults, ...values }, document, secrets].map((part) => `${JSON.stringify(part)}\n`).join(""),
    );
    return child;
  }

  run(argv: readonly string[], request: Request = {}): Promise<Answer> {
    return answerOf(this.start(argv, request));
  }

  async check(): Promise<Check[]> {
    const { stdout } = await this.run(["check"]);
    return stdout
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Check);
  }

  /** Runs a shell command as the worker, without rights of root's, in a session of its own. */
  async as(command: string): Promise<string> {
    const { stdout } = await this.host.ssh(command, this.worker);
    return stdout.trim();
  }
}

/**
 * Every path on the host's disk but logs and what every boot and login writes: what must be the same when a stack has gone.
 */
export async function pathsOf(host: TestHost): Promise<string[]> {
  const moving = ["/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/var/log", "/var/lib/systemd", "/var/cache"];
  const prune = moving.map((folder) => `-path ${folder}`).join(" -o ");
  return (await host.exec(`find / -xdev \\( ${prune} \\) -prune -o -printf '%p %m %l\\n' | sort`)).split("\n");
}
