import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";

/** A client's state of a test's own: its folders and its SSH configuration; in the environment from `begin` to `end`. */
export class ClientState {
  readonly folder = mkdtempSync(path.join(tmpdir(), "tandem-faults-"));
  private readonly before = { ...process.env };

  begin(): void {
    const config = path.join(this.folder, "ssh_config");
    writeFileSync(config, "UserKnownHostsFile /dev/null\n");
    Object.assign(process.env, { TANDEM_HOME: path.join(this.folder, "home"), TANDEM_SSH_CONFIG: config });
    // On a loaded machine a host may take its time to boot.
    process.env["TANDEM_RECONNECT_SECONDS"] = "90";
  }

  end(): void {
    for (const name of Object.keys(process.env)) if (!(name in this.before)) Reflect.deleteProperty(process.env, name);
    Object.assign(process.env, this.before);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
