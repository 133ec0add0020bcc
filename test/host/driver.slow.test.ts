import { afterAll, beforeAll, expect, it } from "vitest";
import { NvidiaRepository } from "../fakes/nvidia-repository";
import { describeOnHosts, Fleet } from "../fixtures/hosts/hosts";
import { DriverHost, ENSURE, REPOSITORY, resultOf, SCRIPTS } from "./driver-host";
import { HOST_SCRIPTS } from "./host";

let repository: NvidiaRepository;
let fleet: Fleet;

async function bareHost(name: string, suite: "bookworm" | "trixie" = "bookworm"): Promise<DriverHost> {
  const mounts = { [REPOSITORY]: repository.folder, [SCRIPTS]: HOST_SCRIPTS };
  const [host] = await fleet.add([name], { suite, mounts });
  const driver = new DriverHost(host!);
  driver.putGpus(2);
  return driver;
}

/** The same without Debian's archive, whose lists take the longest of all. */
async function hostWithoutArchive(name: string): Promise<DriverHost> {
  const driver = await bareHost(name);
  await driver.host.exec("rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*; rm -rf /var/lib/apt/lists/*");
  return driver;
}

describeOnHosts("the driver step on a bare host", () => {
  beforeAll(async () => {
    repository = new NvidiaRepository(["615.71.09", "580.159.04", "550.163.01"], ["debian12", "debian13"]);
    fleet = await Fleet.open();
  });
  afterAll(async () => {
    await fleet?.close();
    repository?.close();
  });

  it.each([
    ["d12", "bookworm"],
    ["d13", "trixie"],
  ] as const)(
    "(%s) installs from NVIDIA's repository, asks for a reboot, and is proven after it",
    async (name, suite) => {
      const driver = await bareHost(name, suite);
      const before = await driver.traces();

      const first = await driver.apply();
      expect(first.stderr).toContain("using NVIDIA's repository");
      expect(first.stderr).toContain("the driver needs a reboot");
      expect(first.status).toBe(60);
      // Without the reboot that it asked for it asks again, and installs nothing twice.
      const again = await driver.apply(ENSURE, { TANDEM_REPAIR: "again" });
      expect(again.status).toBe(60);
      expect(again.stderr).not.toContain("installing");

      await driver.host.reboot();
      const proven = await driver.apply();
      expect(resultOf(proven)).toEqual({
        version: "580.159.04",
        branch: 580,
        module: "open",
        gpus: 2,
        installed: true,
        cuda: "proven",
        warnings: [],
      });
      expect(await driver.check()).toMatchObject({ holds: true });

      // A second apply changes nothing.
      const settled = await driver.traces();
      expect((await driver.apply()).status).toBe(0);
      expect(await driver.traces()).toBe(settled);
      const held = (await driver.host.exec("apt-mark showhold")).split("\n");
      expect(held).toEqual(expect.arrayContaining(["libcuda1", "nvidia-driver-cuda", "nvidia-kernel-open-dkms"]));
      expect(await driver.host.exec("apt-get -s dist-upgrade")).not.toMatch(/Inst .*(nvidia|cuda)/);

      // Removed without a trace when told so.
      expect((await driver.apply({ ...ENSURE, onDestroy: "remove" })).status).toBe(0);
      expect((await driver.undo()).status).toBe(0);
      expect(await driver.traces()).toBe(before);
    },
  );

  it("waits for another user of dpkg, names it when the limit is over, and finishes what a killed dpkg had begun", async () => {
    const driver = await hostWithoutArchive("lock");
    await driver.host.holdDpkgLock(20);
    const refused = await driver.apply(ENSURE, { TANDEM_DPKG_LOCK_SECONDS: "2" });
    expect(refused.status).toBe(62);
    expect(refused.stderr).toMatch(/dpkg is still in use after 2 s, by process \d+ \(\/usr\/bin\/dpkg -i/);
    await driver.host.exec("while systemctl -q is-active slow-package; do sleep 0.2; done");

    await driver.host.breakDpkg();
    const installed = await driver.apply();
    expect(installed.stderr).toContain("finishing what an interrupted dpkg left");
    expect(installed.status).toBe(60);
    // Destroyed before it was ever proven, it goes whatever onDestroy says.
    expect((await driver.undo()).status).toBe(0);
    expect(await driver.host.exec("dpkg-query -W | grep -c nvidia || :")).toBe("0");
  });

  it("replaces a driver that is too old, leaves nobody's processes without GPUs, and keeps the new one", async () => {
    const driver = await hostWithoutArchive("old");
    await driver.bringDriver("550.163.01");
    const keep = await driver.apply({ ...ENSURE, policy: "keep" });
    expect(keep.status).toBe(65);
    expect(keep.stderr).toContain("driver-too-old: driver 550.163.01 is too old: the runtime needs branch 580");

    driver.set("users", "4242, /usr/bin/python3");
    const inUse = await driver.apply();
    expect(inUse.status).toBe(66);
    expect(inUse.stderr).toContain("process 4242 (/usr/bin/python3)");
    driver.set("users", undefined);

    expect((await driver.apply()).status).toBe(60);
    await driver.host.reboot();
    expect(resultOf(await driver.apply())).toMatchObject({ version: "580.159.04", installed: true, cuda: "proven" });
    const undone = await driver.undo();
    expect(undone.status).toBe(0);
    expect(undone.stderr).toContain("580.159.04 stays: it replaced the driver 550.163.01");
    expect(await driver.host.exec("nvidia-smi --query-gpu=index,driver_version")).toBe("0, 580.159.04\n1, 580.159.04");
  });

  it("never touches a good driver, and says of a broken one what it is", async () => {
    const driver = await hostWithoutArchive("good");
    await driver.bringDriver("580.159.04");
    const before = await driver.traces();
    expect(resultOf(await driver.apply())).toMatchObject({ version: "580.159.04", installed: false, cuda: "proven" });

    driver.set("gpus", "1");
    expect((await driver.check()).reason).toMatch(/^gpus-missing: the driver sees 1 of 2 GPUs/);
    expect((await driver.apply()).status).toBe(65);
    driver.set("gpus", "2");

    const loaded = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (test)";
    driver.set("proc/driver/nvidia/version", loaded);
    const mismatch = await driver.apply({ ...ENSURE, policy: "keep" });
    expect(mismatch.status).toBe(65);
    expect(mismatch.stderr).toContain("the loaded kernel module 580.95.05 and the libraries 580.159.04");
    expect((await driver.apply({ ...ENSURE, reboot: false })).status).toBe(61);
    expect((await driver.apply()).status).toBe(60);
    await driver.host.reboot();
    expect((await driver.apply()).status).toBe(0);

    driver.set("cuda-error", "802");
    const cuda = await driver.apply();
    expect(cuda.stderr).toContain("cuda-failed: CUDA can't start: system not yet initialised (802)");
    driver.set("cuda-error", undefined);
    expect((await driver.apply()).status).toBe(0);
    expect((await driver.undo()).status).toBe(0);
    expect(await driver.traces()).toBe(before);
  });

  it("installs the fabric manager of the driver's version where there are NVSwitches, and it runs", async () => {
    const driver = await hostWithoutArchive("switch");
    driver.putGpus(2, 4);
    const document = { ...ENSURE, fabricManager: true };
    expect((await driver.apply(document)).status).toBe(60);
    await driver.host.reboot();
    const proven = await driver.apply(document);
    expect(proven.stderr).toContain("ok: fabric-manager — the fabric manager 580.159.04 runs");
    expect(proven.status).toBe(0);
  });
});
