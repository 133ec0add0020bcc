import { cpSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { closeConnections } from "../../bootstrap/runner/ssh-connection";
import type { SshTarget, StepRequest } from "../../bootstrap/runner/request";
import { HOST_SCRIPTS, read } from "../host/host";
import { PROBE_STEP } from "../host/probe-step";

/** A step that asks for restarts: `{ "restarts": n, "always": true }`. It counts the boots that it saw. */
const RESTART_STEP = `
. "$TANDEM_SCRIPTS_DIR/common.sh"
case "$1" in
  apply)
    read_document
    boots="$TANDEM_STEP_DIR/boots"
    boot="$(cat /proc/sys/kernel/random/boot_id)"
    grep -qx "$boot" "$boots" 2>/dev/null || echo "$boot" >>"$boots"
    if [ -n "\${doc_always:-}" ] || [ "$(grep -c . "$boots")" -le "\${doc_restarts:-0}" ]; then
      say "the module is not the kernel's"
      exit 60
    fi
    printf '{"boots":%s}\\n' "$(grep -c . "$boots")"
    ;;
esac
exit 0
`;

/** A client of its own for a test: its state folder, and scripts with two steps more than the real ones. */
export class Client {
  readonly root = mkdtempSync(path.join(tmpdir(), "tdm-"));
  readonly scripts = path.join(this.root, "host");
  readonly lines: string[] = [];
  readonly say = (line: string): void => {
    this.lines.push(line);
  };
  readonly #before = { ...process.env };

  constructor() {
    cpSync(HOST_SCRIPTS, this.scripts, { recursive: true });
    writeFileSync(path.join(this.scripts, "probe.sh"), PROBE_STEP.replace(/^.*"\$TANDEM_HOST_DIR\/undone"$/m, ""));
    writeFileSync(path.join(this.scripts, "restart.sh"), RESTART_STEP);
    Object.assign(process.env, {
      TANDEM_HOME: path.join(this.root, "home"),
      TANDEM_SSH_CONFIG: this.write("ssh_config", "UserKnownHostsFile /dev/null\n"),
    });
  }

  get said(): string {
    return this.lines.join("\n");
  }

  write(name: string, text: string): string {
    writeFileSync(path.join(this.root, name), text, { mode: 0o600 });
    return path.join(this.root, name);
  }

  /** Copies what the runner is made of, with the test's scripts in it. */
  copyPackage(): string {
    const source = path.resolve(__dirname, "../..");
    const copy = mkdtempSync(path.join(this.root, "package-"));
    for (const name of ["package.json", "tsconfig.json", "plan", "bootstrap/runner", "bootstrap/trainer"]) {
      cpSync(path.join(source, name), path.join(copy, name), { recursive: true });
    }
    cpSync(this.scripts, path.join(copy, "bootstrap/host"), { recursive: true });
    symlinkSync(path.join(source, "node_modules"), path.join(copy, "node_modules"));
    return copy;
  }

  /** Sets variables for the rest of the test. */
  set(variables: Readonly<Record<string, string>>): void {
    Object.assign(process.env, variables);
  }

  request(target: SshTarget, document: unknown, more: Partial<StepRequest> = {}): StepRequest {
    return {
      target,
      stack: "ssh-test",
      step: "probe" as StepRequest["step"],
      values: {},
      document,
      timeoutSeconds: 120,
      ...more,
    };
  }

  /** Ends the connections and takes the folders away. */
  async close(targets: readonly SshTarget[]): Promise<void> {
    await closeConnections(targets);
    for (const name of Object.keys(process.env)) if (!(name in this.#before)) Reflect.deleteProperty(process.env, name);
    Object.assign(process.env, this.#before);
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** Command lines and environments of all processes that can be seen from here, hosts included; by process id. */
export function processTexts(): Map<string, string> {
  const ids = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  return new Map(ids.map((id) => [id, `${read(`/proc/${id}/cmdline`)}\0${read(`/proc/${id}/environ`)}`]));
}

/** The numbers in the probe's progress. */
export function lineNumbers(lines: readonly string[]): number[] {
  return lines.flatMap((line) => /^line (\d+) of/.exec(line)?.[1] ?? []).map(Number);
}
