import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import * as path from "node:path";
import { debianProgram } from "../fixtures/debian-program";
import type { TestHost } from "../fixtures/hosts/hosts";

const PORT = 14_000;
const MANAGEMENT_PORT = 15_000;
/** Where the authority's host finds the program. */
const PROGRAMS_ON_HOST = "/srv/pebble";

/**
 * A real ACME authority on a test host: pebble, by the makers of Let's Encrypt. It asks the machine on port 80 as theirs does; the names that it
 * knows are those of its host's `/etc/hosts`.
 */
export class Authority {
  private constructor(private readonly host: TestHost) {}

  /** To be mounted on the authority's host. */
  static get mounts(): Record<string, string> {
    return { [PROGRAMS_ON_HOST]: path.dirname(debianProgram("pebble", "usr/bin/pebble")) };
  }

  /** @param root file for the root certificate of the authority's own server, which is its certificate itself */
  static async start(host: TestHost, root: string): Promise<Authority> {
    const key = path.join(host.root, "root/authority.key");
    const made = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    const names = ["-subj", "/CN=authority", "-addext", `subjectAltName=IP:${host.address}`];
    execFileSync("openssl", ["req", ...made, ...names, "-keyout", key, "-out", root], { stdio: "ignore" });
    execFileSync("cp", [root, path.join(host.root, "root/authority.pem")]);
    const settings = {
      listenAddress: `0.0.0.0:${PORT}`,
      managementListenAddress: `0.0.0.0:${MANAGEMENT_PORT}`,
      certificate: "/root/authority.pem",
      privateKey: "/root/authority.key",
      httpPort: 80,
      tlsPort: 443,
      ocspResponderURL: "",
      externalAccountBindingRequired: false,
    };
    writeFileSync(path.join(host.root, "root/pebble.json"), JSON.stringify({ pebble: settings }));
    const authority = new Authority(host);
    // Without the waits that it makes to be like a busy one; it never takes an earlier proof for a new order.
    const variables = ["PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0"].map((one) => `-E ${one}`).join(" ");
    const pebble = `${PROGRAMS_ON_HOST}/pebble -strict -config /root/pebble.json`;
    await host.exec(`systemd-run -q --unit=pebble ${variables} ${pebble}`);
    await host.exec(
      `for i in $(seq 100); do curl -sf --cacert /root/authority.pem ${authority.directory} && exit; sleep 0.1; done; exit 1`,
    );
    return authority;
  }

  get directory(): string {
    return `https://${this.host.address}:${PORT}/dir`;
  }

  /** Has a name lead to an address, for the authority; without one nobody knows the name. */
  async point(name: string, address: string): Promise<void> {
    const add = address === "" ? "" : `; echo '${address} ${name}' >>/etc/hosts`;
    await this.host.exec(`sed -i '/ ${name}$/d' /etc/hosts${add}`);
  }

  /** Puts the root of what it issues into a file of its host. */
  async keepRoot(file: string): Promise<void> {
    await this.host.exec(
      `curl -sf --cacert /root/authority.pem https://${this.host.address}:${MANAGEMENT_PORT}/roots/0 -o ${file}`,
    );
  }
}
