import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import type { Ran, TestHost } from "../fixtures/hosts/hosts";

export const REPOSITORY = "/srv/nvidia";
export const SCRIPTS = "/opt/tandem";
const FAKE = "var/lib/fakegpu";

/** What the driver step is told, as `driverDocument` makes it for a machine with two H100. */
export const ENSURE = {
  policy: "ensure",
  branch: 580,
  floor: 580,
  module: "open",
  expectedGpus: 2,
  fabricManager: false,
  subnetManager: false,
  container: false,
  reboot: true,
  onDestroy: "keep",
  repository: `file://${REPOSITORY}`,
};
export type Document = Omit<typeof ENSURE, "repository"> & { readonly repository?: string };

/** The driver step on a real host, through the real `work.sh`; hardware and kernel module are stand-ins in /var/lib/fakegpu. */
export class DriverHost {
  constructor(readonly host: TestHost) {}

  /** Puts H100s on the host's bus, as sysfs shows them. */
  putGpus(count: number, nvSwitches = 0): void {
    this.set("gpus", String(count));
    for (let index = 0; index < count; index++) this.#putDevice(`0000:${10 + index}:00.0`, "0x2330", "0x030200");
    for (let index = 0; index < nvSwitches; index++) this.#putDevice(`0000:${60 + index}:00.0`, "0x22a3", "0x068000");
  }

  #putDevice(address: string, device: string, pciClass: string): void {
    const folder = `sys/bus/pci/devices/${address}`;
    this.set(`${folder}/vendor`, "0x10de");
    this.set(`${folder}/device`, device);
    this.set(`${folder}/class`, pciClass);
  }

  /** Sets a fact of the stand-in hardware; undefined takes it back. */
  set(name: string, content: string | undefined): void {
    const file = path.join(this.host.root, FAKE, name);
    if (content === undefined) {
      rmSync(file, { force: true });
      return;
    }
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, `${content}\n`);
  }

  async apply(document: Document = ENSURE, values: Readonly<Record<string, string>> = {}): Promise<Ran> {
    const request = [{ ...this.values, ...values }, document, {}].map((line) => `${JSON.stringify(line)}\n`).join("");
    writeFileSync(path.join(this.host.root, "root/request"), request);
    return this.host.tryExec(`TANDEM_STACK=pair sh ${SCRIPTS}/work.sh apply driver </root/request`, 200);
  }

  undo(): Promise<Ran> {
    return this.host.tryExec(`TANDEM_STACK=pair sh ${SCRIPTS}/work.sh undo driver </root/request`, 200);
  }

  /** What `check` says of the step. */
  async check(): Promise<{ holds: boolean; reason?: string }> {
    const line = await this.host.exec(`TANDEM_STACK=pair sh ${SCRIPTS}/work.sh check`);
    return JSON.parse(line) as { holds: boolean; reason?: string };
  }

  /** Installs a driver as its user would have done before Tandem came, and boots with it. */
  async bringDriver(version: string): Promise<void> {
    const folder = `${REPOSITORY}/${await this.system()}/x86_64`;
    const packages = ["libcuda1", "nvidia-driver-cuda", "nvidia-kernel-open-dkms"];
    await this.host.exec(`cd ${folder} && dpkg -i ${packages.map((name) => `${name}_${version}-1_*.deb`).join(" ")}`);
    await this.host.reboot();
  }

  /** Everything that a driver installation may change, for comparing. */
  traces(): Promise<string> {
    return this.host.exec(
      "dpkg-query -W; apt-mark showhold; ls /etc/apt/sources.list.d /etc/apt/preferences.d /etc/modprobe.d /usr/share/keyrings",
    );
  }

  system(): Promise<string> {
    return this.host.exec('. /etc/os-release; printf %s "$ID$VERSION_ID"');
  }

  readonly values = { TANDEM_SYS: `/${FAKE}/sys`, TANDEM_PROC: `/${FAKE}/proc`, TANDEM_KERNEL_LOG: "/dev/null" };
}

/** The step's result, from the last line of its output. */
export function resultOf({ stdout }: Ran): Record<string, unknown> {
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as Record<string, unknown>;
}
