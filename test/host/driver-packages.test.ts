import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HOST_SCRIPTS } from "./host";

const LISTS = path.join(__dirname, "fixtures/driver-packages");
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "tandem-packages-"));
  const bin = path.join(folder, "bin");
  mkdirSync(bin);
  copyFileSync(path.join(__dirname, "../fakes/apt-cache.sh"), path.join(bin, "apt-cache"));
  writeFileSync(path.join(bin, "uname"), "#!/bin/sh\necho 6.8.0-138-generic\n");
  writeFileSync(
    path.join(bin, "dpkg-query"),
    '#!/bin/sh\ncase "$2" in linux-generic | linux-image-generic | linux-image-6.8.0-138-generic) exit 0 ;; esac\nexit 1\n',
  );
  for (const name of ["apt-cache", "uname", "dpkg-query"]) chmodSync(path.join(bin, name), 0o755);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

interface Wish {
  readonly os: string;
  readonly lists: readonly string[];
  readonly module?: "open" | "proprietary";
  readonly branch?: number;
  /** The branch that an installed pinning package locks. */
  readonly pinned?: number;
  readonly fabric?: boolean;
  readonly subnet?: boolean;
  readonly secureBoot?: boolean;
  readonly call?: string;
}

/** What the real script chooses from published lists. */
function choose({ os, lists, module = "open", branch = 580, pinned, fabric = false, subnet = false, ...more }: Wish): {
  packages: string[];
  choice: string;
  holds: string[];
  ok: boolean;
} {
  const from = lists[0]?.startsWith("nvidia") ? "choose_from_nvidia" : "choose_from_distribution";
  if (more.secureBoot) {
    const variables = path.join(folder, "sys/firmware/efi/efivars");
    mkdirSync(variables, { recursive: true });
    writeFileSync(path.join(variables, "SecureBoot-8be4df61"), Buffer.from([6, 0, 0, 0, 1]));
  }
  const script = `set -eu; . "$SCRIPTS/gpu-bus.sh"; . "$SCRIPTS/driver-packages.sh"
    kernel_headers_are_there() { false; }
    os_id=${os} want_branch=${branch} want_module=${module} want_fabric=${fabric} want_subnet=${subnet} packages='' choice='' extra_holds=''
    if ${more.call ?? from}; then ok=true; else ok=false; fi
    printf '%s\\n%s\\n%s\\n%s\\n' "$packages" "$choice" "$extra_holds" "$ok"`;
  const output = execFileSync("sh", ["-c", script], {
    encoding: "utf8",
    env: {
      PATH: `${path.join(folder, "bin")}:${process.env["PATH"]}`,
      SCRIPTS: HOST_SCRIPTS,
      TANDEM_SCRIPTS_DIR: HOST_SCRIPTS,
      TANDEM_SYS: path.join(folder, "sys"),
      TANDEM_MODULES: path.join(folder, "modules"),
      APT_LISTS: lists.map((name) => path.join(LISTS, `${name}.txt`)).join(" "),
      APT_BRANCH: pinned === undefined ? "" : String(pinned),
    },
  }).split("\n");
  const words = (line = "") => line.split(" ").filter((word) => word !== "");
  return {
    packages: words(output.at(-5)),
    choice: output.at(-4) ?? "",
    holds: words(output.at(-3)),
    ok: output.at(-2) === "true",
  };
}

describe("packages of the driver", () => {
  it.each(["22.04", "24.04"])("are Ubuntu %s's own server branch, with the open module", (version) => {
    const { packages, ok } = choose({ os: "ubuntu", lists: [`ubuntu-${version}`] });
    const exact = `580.173.02-0ubuntu0.${version}.1`;
    expect(packages).toEqual([`nvidia-headless-580-server-open=${exact}`, `nvidia-utils-580-server=${exact}`]);
    expect(ok).toBe(true);
  });

  it("are the proprietary ones for older GPUs", () => {
    const { packages } = choose({ os: "ubuntu", lists: ["ubuntu-24.04"], module: "proprietary" });
    expect(packages[0]).toMatch(/^nvidia-headless-580-server=/);
  });

  it("are signed ones under Secure Boot, and the kernel is held with them", () => {
    const { packages, holds } = choose({ os: "ubuntu", lists: ["ubuntu-24.04"], secureBoot: true });
    expect(packages[0]).toBe("linux-modules-nvidia-580-server-open-6.8.0-138-generic");
    expect(packages[1]).toMatch(/^nvidia-headless-no-dkms-580-server-open=/);
    expect(holds).toEqual(["linux-generic", "linux-image-generic"]);
  });

  it("come with a fabric manager of the very same version", () => {
    const { packages } = choose({ os: "ubuntu", lists: ["ubuntu-24.04"], fabric: true });
    expect(packages.at(-1)).toBe("nvidia-fabricmanager-580=580.173.02-0ubuntu0.24.04.1");
  });

  it.each([
    ["12", "535.261.03-1"],
    ["13", "550.163.01-2"],
  ])("are not Debian %s's own, which stop at %s", (version, newest) => {
    const { ok, choice } = choose({ os: "debian", lists: [`debian-${version}`] });
    expect(ok).toBe(false);
    expect(choice).toBe(`Debian has ${newest} nvidia-open-kernel-dkms`);
  });

  it("are Debian's own where the branch that is wanted is that old", () => {
    const { ok, packages } = choose({ os: "debian", lists: ["debian-12"], branch: 535 });
    expect(ok).toBe(true);
    expect(packages).toEqual(["nvidia-open-kernel-dkms=535.261.03-1", "nvidia-smi", "libcuda1"]);
  });

  it.each(["12", "13"])("are NVIDIA's for computing only on Debian %s, of the branch that is pinned", (version) => {
    const { packages } = choose({ os: "debian", lists: [`nvidia-debian${version}`, `debian-${version}`], pinned: 580 });
    expect(packages).toEqual(["nvidia-kernel-open-dkms=580.178.04-1", "nvidia-driver-cuda=580.178.04-1"]);
    const old = choose({ os: "debian", lists: [`nvidia-debian${version}`], pinned: 580, module: "proprietary" });
    expect(old.packages[0]).toBe("nvidia-kernel-dkms=580.178.04-1");
  });

  it("bring NVLSM for NVSwitches of Blackwell machines", () => {
    const { packages } = choose({ os: "debian", lists: ["nvidia-debian13"], pinned: 580, fabric: true, subnet: true });
    expect(packages.slice(-2)).toEqual(["nvidia-fabricmanager=580.178.04-1", "nvlsm"]);
  });

  it("are refused when no fabric manager is of the driver's version", () => {
    const { ok, packages, choice } = choose({ os: "debian", lists: ["debian-12"], branch: 535, fabric: true });
    expect(ok).toBe(false);
    expect(packages).toEqual([]);
    expect(choice).toMatch(/no fabric manager of version 535\.261\.03/);
  });

  it("carry the branch in NVIDIA's names for Ubuntu up to 580, and not after", () => {
    const before = choose({ os: "ubuntu", lists: ["nvidia-ubuntu2404"], pinned: 580 });
    expect(before.packages.map((name) => name.split("=")[0])).toEqual([
      "nvidia-dkms-580-open",
      "libnvidia-compute-580",
      "nvidia-utils-580",
    ]);
    const after = choose({ os: "ubuntu", lists: ["nvidia-ubuntu2404"], branch: 615, pinned: 615 });
    expect(after.packages.map((name) => name.split("=")[0])).toEqual([
      "nvidia-dkms-open",
      "libnvidia-compute",
      "nvidia-utils",
    ]);
  });

  it("are refused when NVIDIA's repository would give another branch than the one that was asked for", () => {
    const { ok, choice } = choose({ os: "debian", lists: ["nvidia-debian12"] });
    expect(ok).toBe(false);
    expect(choice).toContain("615.71.09-1 for branch 580");
  });

  it("come with headers of the running kernel and of the next one, or say that there are none", () => {
    const call = 'eval "packages=\\"\\$(kernel_header_packages)\\""';
    expect(choose({ os: "ubuntu", lists: ["ubuntu-24.04"], call }).packages).toEqual([
      "linux-headers-6.8.0-138-generic",
      "linux-headers-generic",
    ]);
    expect(choose({ os: "debian", lists: ["debian-12"], call }).ok).toBe(false);
  });
});
