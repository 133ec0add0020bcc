import { execFile, spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { stringify } from "yaml";
import type { Outputs } from "../../stacks/outputs";
import { writeStandIn } from "../fakes/vllm/runtime";
import type { TestHost } from "../fixtures/hosts/hosts";

const root = path.resolve(__dirname, "../..");

/** Where the hosts find what a user would have put there: model and runtime. */
export const SUPPLIES_ON_HOST = "/srv/supplies";

export interface Run {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
}

/** What `tandem up --json` and `preview --json` print. */
export interface Document {
  readonly outputs: Outputs;
  readonly changes: readonly { readonly step: string; readonly action: string; readonly reason?: string }[];
  readonly unchanged: number;
  readonly error?: { readonly message: string };
}

/** An environment on test hosts, driven by the real command in a home of its own, with the stand-in for vLLM. */
export class Deployment {
  readonly folder = mkdtempSync(path.join(tmpdir(), "tandem-deployment-"));
  readonly home = path.join(this.folder, "home");
  /** To be mounted on each host at `SUPPLIES_ON_HOST`. */
  readonly supplies = path.join(this.folder, "supplies");
  private readonly file: string;

  constructor(readonly name: string) {
    this.file = path.join(this.folder, `Pulumi.${name}.yaml`);
    mkdirSync(this.supplies);
    writeStandIn(this.supplies);
  }

  /** Writes the settings: the hosts, with what `more` adds. */
  configure(hosts: readonly object[], more: Readonly<Record<string, unknown>> = {}): void {
    const { ssh, ...rest } = more;
    const settings = {
      target: "ssh",
      model: `${SUPPLIES_ON_HOST}/model`,
      runtime: "archive",
      runtimePath: `${SUPPLIES_ON_HOST}/vllm.tar`,
      gpus: 0,
      // Bringing nginx to eight hosts takes longer than all else; the gateway has hosts of its own, test/gateway.
      gateway: { enabled: false },
      ssh: { hosts, ...(ssh as object | undefined) },
      ...rest,
    };
    this.write(settings);
  }

  /** Writes the settings as they are. */
  write(settings: Readonly<Record<string, unknown>>): void {
    const config = Object.fromEntries(Object.entries(settings).map(([key, value]) => [`tandem:${key}`, value]));
    writeFileSync(this.file, stringify({ config }));
  }

  /** Starts `tandem`; `up` and `preview` read the settings again. */
  start(argv: readonly string[], variables: Readonly<Record<string, string>> = {}): ChildProcess {
    const [command = "", ...rest] = argv;
    return spawn(path.join(root, "bin/tandem"), [command, "--env", this.file, ...rest], {
      env: { ...process.env, TANDEM_HOME: this.home, ...variables },
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  /** Runs `tandem` to its end, within 300 s. */
  async tandem(argv: readonly string[], variables: Readonly<Record<string, string>> = {}): Promise<Run> {
    const startedAt = Date.now();
    const [command = "", ...rest] = argv;
    return new Promise((resolve) => {
      execFile(
        path.join(root, "bin/tandem"),
        [command, "--env", this.file, ...rest],
        { env: { ...process.env, TANDEM_HOME: this.home, ...variables }, timeout: 300_000, maxBuffer: 32 << 20 },
        (error, stdout, stderr) => {
          const status = error === null ? 0 : typeof error.code === "number" ? error.code : 255;
          resolve({ status, stdout, stderr, seconds: (Date.now() - startedAt) / 1000 });
        },
      );
    });
  }

  /** `tandem COMMAND --json`, expected to end with `status`. */
  async ask(
    argv: readonly string[],
    status = 0,
    variables: Readonly<Record<string, string>> = {},
  ): Promise<Document & { readonly seconds: number }> {
    const run = await this.tandem([...argv, "--json", ...(argv[0] === "preview" ? [] : ["--yes"])], variables);
    if (run.status !== status)
      throw new Error(`tandem ${argv.join(" ")} ended with ${run.status}:\n${run.stderr}\n${run.stdout}`);
    return { ...(JSON.parse(run.stdout) as Document), seconds: run.seconds };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** What a host has of Tandem and of what it was given, as far as a borrower may leave nothing: one line each. */
export async function tracesOn(host: TestHost): Promise<string[]> {
  const looks = [
    "find /var/lib/tandem /run/tandem /root/.cache/tandem /home/*/.cache/tandem /home/*/.local/state/tandem -maxdepth 1 2>/dev/null",
    "find /etc -newer /srv/taken -type f 2>/dev/null",
    "ls /etc/systemd/system /run/systemd/transient 2>/dev/null | grep -i tandem",
    "grep -lz '^TANDEM_OWNER=' /proc/[0-9]*/environ 2>/dev/null",
    "ss -Hltn | awk '{ print $4 }' | grep -v ':22$'",
  ];
  const answers = await Promise.all(looks.map((look) => host.exec(`${look} || :`)));
  return answers.flatMap((answer) => answer.split("\n").filter((line) => line !== ""));
}
