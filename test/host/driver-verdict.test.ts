import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HOST_SCRIPTS } from "./host";

let folder: string;
let environment: Record<string, string>;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "tandem-verdict-"));
  for (const name of ["bin", "sys/module", "sys/bus/pci/devices", "proc/driver/nvidia", "modules"]) {
    mkdirSync(path.join(folder, name), { recursive: true });
  }
  writeFileSync(path.join(folder, "kernel.log"), "");
  // Nothing of this machine's own driver, if it has one.
  program("ldconfig", "");
  program("dkms", "");
  environment = {
    PATH: `${path.join(folder, "bin")}:/usr/sbin:/usr/bin:/sbin:/bin`,
    SCRIPTS: HOST_SCRIPTS,
    TANDEM_SCRIPTS_DIR: HOST_SCRIPTS,
    TANDEM_SYS: path.join(folder, "sys"),
    TANDEM_PROC: path.join(folder, "proc"),
    TANDEM_MODULES: path.join(folder, "modules"),
    TANDEM_KERNEL_LOG: path.join(folder, "kernel.log"),
    DRIVER_FLOOR: "580",
    DRIVER_QUICK: "1",
  };
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A program on the host's path: the shell text that it is. */
function program(name: string, text: string): void {
  const file = path.join(folder, "bin", name);
  writeFileSync(file, `#!/bin/sh\n${text}\n`);
  chmodSync(file, 0o755);
}

/** Devices of NVIDIA on the bus, as sysfs shows them. */
function onBus(count: number, deviceId = "2330", pciClass = "0x030200", first = 0x10): void {
  for (let index = 0; index < count; index++) {
    const device = path.join(folder, "sys/bus/pci/devices", `0000:${(first + index).toString(16)}:00.0`);
    mkdirSync(device);
    writeFileSync(path.join(device, "vendor"), "0x10de\n");
    writeFileSync(path.join(device, "device"), `0x${deviceId}\n`);
    writeFileSync(path.join(device, "class"), `${pciClass}\n`);
  }
}

/** A driver that answers for so many GPUs: nvidia-smi's rows, the module's version and the libraries'. */
function driver(count: number, version = "580.159.04", library = version): void {
  const rows = Array.from({ length: count }, (_, index) => `${index}, ${version}`).join("\\n");
  program("nvidia-smi", `printf '${rows}\\n'`);
  // As a machine with 2 x H100 has it, driver 580.159.04, November 2026.
  writeFileSync(
    path.join(folder, "proc/driver/nvidia/version"),
    `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  ${version}  Release Build  (dvs-builder@U22)\nGCC version:  gcc version 12.2.0\n`,
  );
  const file = path.join(folder, `libnvidia-ml.so.${library}`);
  writeFileSync(file, "");
  program("ldconfig", `printf '\\tlibnvidia-ml.so.1 (libc6,x86-64) => ${file}\\n'`);
}

const kernelSays = (line: string) => writeFileSync(path.join(folder, "kernel.log"), `${line}\n`);

interface Verdict {
  readonly code: string;
  readonly level: string;
  readonly text: string;
  readonly cure: string;
}

function verdicts(): Verdict[] {
  const script = 'set -eu; . "$SCRIPTS/driver-verdict.sh"; driver_verdicts';
  const output = execFileSync("sh", ["-c", script], { encoding: "utf8", env: environment });
  return output
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [code = "", level = "", text = "", cure = ""] = line.split("\t");
      return { code, level, text, cure };
    });
}

/** The failing codes; every one of them has a text and a cure. */
function failing(): string[] {
  const failed = verdicts().filter(({ level }) => level === "fail");
  for (const { text, cure } of failed) expect(Math.min(text.length, cure.length)).toBeGreaterThan(10);
  return failed.map(({ code }) => code);
}

describe("driver_verdicts", () => {
  it("finds nothing wrong with a driver that answers for every GPU on the bus", () => {
    onBus(2);
    driver(2);
    expect(verdicts().map(({ code, level }) => `${code} ${level}`)).toEqual(["gpus-on-bus ok", "driver ok"]);
  });

  it("says no-gpu for a bus without any, and takes neither switches nor sound for GPUs", () => {
    onBus(4, "22a3", "0x068000", 0x60);
    onBus(1, "10fa", "0x040300", 0x70);
    expect(failing()).toEqual(["no-gpu"]);
  });

  it("says driver-missing, and warns when Secure Boot will refuse what is built here", () => {
    onBus(8);
    const variables = path.join(folder, "sys/firmware/efi/efivars");
    mkdirSync(variables, { recursive: true });
    writeFileSync(path.join(variables, "SecureBoot-8be4df61"), Buffer.from([6, 0, 0, 0, 1]));
    expect(verdicts().map(({ code, level }) => `${code} ${level}`)).toEqual([
      "gpus-on-bus ok",
      "driver-missing fail",
      "secure-boot warn",
    ]);
  });

  it("says gpus-missing with both numbers; less than the bus alone is only a warning", () => {
    onBus(8);
    driver(7);
    expect(verdicts().find(({ code }) => code === "gpus-missing")).toMatchObject({
      level: "fail",
      text: "the driver sees 7 of 8 GPUs",
    });
    environment["DRIVER_EXPECTED_GPUS"] = "4";
    expect(failing()).toEqual([]);
    expect(verdicts().find(({ code }) => code === "gpus-missing")?.level).toBe("warn");
  });

  it("does not count a GPU that was handed to a virtual machine", () => {
    onBus(2);
    mkdirSync(path.join(folder, "sys/bus/pci/drivers/vfio-pci"), { recursive: true });
    symlinkSync("../../drivers/vfio-pci", path.join(folder, "sys/bus/pci/devices/0000:11:00.0/driver"));
    driver(1);
    expect(failing()).toEqual([]);
  });

  it("says driver-too-old below the floor, and nothing without one", () => {
    onBus(1);
    driver(1, "550.163.01");
    expect(failing()).toEqual(["driver-too-old"]);
    environment["DRIVER_FLOOR"] = "";
    expect(failing()).toEqual([]);
  });

  it("says version-mismatch by the words of NVML, and by the versions of module and library", () => {
    onBus(1);
    driver(1, "580.126.09", "580.159.04");
    expect(failing()).toEqual(["version-mismatch"]);
    program("nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18");
    expect(failing()).toEqual(["version-mismatch"]);
    expect(verdicts().at(-1)?.text).toContain("580.126.09 and the libraries 580.159.04");
  });

  it("says driver-hangs instead of hanging itself", () => {
    onBus(1);
    program("nvidia-smi", "exec sleep 60");
    environment["TANDEM_SMI_SECONDS"] = "1";
    const started = Date.now();
    expect(failing()).toEqual(["driver-hangs"]);
    expect(Date.now() - started).toBeLessThan(8000);
  });

  it("says nouveau when the kernel's own driver has the GPUs", () => {
    onBus(1);
    mkdirSync(path.join(folder, "sys/module/nouveau"));
    expect(failing()).toEqual(["nouveau", "driver-missing"]);
  });

  describe("tells why an installed driver is not loaded:", () => {
    beforeEach(() => {
      onBus(1);
      program(
        "nvidia-smi",
        `echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."; exit 9`,
      );
    });

    it("a reboot is missing", () => {
      program("dkms", "echo 'nvidia/580.159.04, 6.8.0-138-generic, x86_64: installed'");
      expect(failing()).toEqual(["driver-not-loaded"]);
    });

    it("there are no headers of the running kernel", () => {
      program("dkms", "echo 'nvidia/580.159.04: added'");
      expect(failing()).toEqual(["no-headers"]);
    });

    it("the module could not be built", () => {
      program("dkms", "echo 'nvidia/580.159.04: added'");
      const build = path.join(folder, "modules", execFileSync("uname", ["-r"], { encoding: "utf8" }).trim(), "build");
      mkdirSync(build, { recursive: true });
      writeFileSync(path.join(build, "Makefile"), "");
      expect(failing()).toEqual(["dkms-failed"]);
    });

    it("Secure Boot refuses the module", () => {
      const variables = path.join(folder, "sys/firmware/efi/efivars");
      mkdirSync(variables, { recursive: true });
      writeFileSync(path.join(variables, "SecureBoot-8be4df61"), Buffer.from([6, 0, 0, 0, 1]));
      kernelSays("kernel: Loading of unsigned module is rejected");
      expect(failing()).toEqual(["secure-boot"]);
    });

    it.each([
      "NVRM: installed in this system requires use of the NVIDIA open kernel modules.",
      "NVRM: nvidia.ko because it does not include the required GPU",
    ])("the module is of the wrong kind: %s", (line) => {
      kernelSays(line);
      expect(failing()).toEqual(["wrong-module"]);
    });
  });

  it.each([
    ["the kernel's log", ""],
    ["nvidia-smi", "Unable to determine the device handle for GPU0000:11:00.0: Unknown Error"],
  ])("says gpu-lost by %s", (_, words) => {
    onBus(2);
    driver(2);
    if (words === "") kernelSays("NVRM: Xid (PCI:0000:11:00): 79, pid=1, GPU has fallen off the bus.");
    else program("nvidia-smi", `printf '0, 580.159.04\\n${words}\\n'`);
    expect(failing()).toContain("gpu-lost");
  });

  it("says what is wrong with the fabric manager of a machine with NVSwitches", () => {
    onBus(2);
    onBus(4, "22a3", "0x068000", 0x60);
    driver(2);
    expect(failing()).toEqual(["fabric-manager-missing"]);
    program("nv-fabricmanager", "echo 'Fabric Manager version is : 580.126.09'");
    expect(failing()).toEqual(["fabric-manager-version"]);
    program("nv-fabricmanager", "echo 'Fabric Manager version is : 580.159.04'");
    program("systemctl", "exit 0");
    expect(failing()).toEqual([]);
  });

  it("initialises CUDA as a program does and says which error came back", () => {
    onBus(2);
    driver(2);
    environment["DRIVER_QUICK"] = "";
    expect(failing()).toEqual(["cuda-failed"]);
    program("python3", "echo 'error 802'");
    expect(verdicts().find(({ code }) => code === "cuda-failed")?.cure).toContain("fabric manager");
    program("python3", "echo 'ok 2'");
    expect(verdicts().find(({ code }) => code === "cuda")?.text).toBe("CUDA initialises and sees 2 GPUs");
  });

  it("names who else uses the GPUs", () => {
    onBus(1);
    driver(1);
    environment["DRIVER_QUICK"] = "";
    program("python3", "echo 'ok 1'");
    program("nvidia-smi", `case "$1" in --query-compute*) echo '4242, python' ;; *) echo '0, 580.159.04' ;; esac`);
    expect(verdicts().find(({ code }) => code === "in-use")).toMatchObject({
      level: "warn",
      text: "GPUs are in use by others: process 4242 (python)",
    });
  });
});
