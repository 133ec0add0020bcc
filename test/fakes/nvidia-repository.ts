import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir, release } from "node:os";
import * as path from "node:path";

const PARTS = path.join(__dirname, "nvidia-driver");

interface DebPackage {
  readonly name: string;
  readonly version: string;
  readonly architecture?: "all" | "amd64";
  /** More lines of the control file, such as Depends. */
  readonly control?: string;
  /** Path in the package → content; a script where it starts with `#!`. */
  readonly files?: Readonly<Record<string, string | Buffer>>;
  readonly links?: Readonly<Record<string, string>>;
  readonly scripts?: Readonly<Record<string, string>>;
}

/**
 * Stands for NVIDIA's package repository for CUDA: same layout, package names, relations, keyring package and signature
 * (compared with the index and the guide of NVIDIA as published in 2026, see docs/driver.md); its packages drive a stand-in of
 * GPUs in /var/lib/fakegpu instead of hardware. Real apt and dpkg install them on real hosts.
 */
export class NvidiaRepository {
  readonly folder = mkdtempSync(path.join(tmpdir(), "tandem-nvidia-"));
  readonly #keyring = path.join(this.folder, "gnupg");

  /**
   * @param versions driver versions that it offers, newest first
   * @param systems folders of it, as `debian12`
   */
  constructor(versions: readonly string[], systems: readonly string[]) {
    chmodSync(this.folder, 0o755);
    mkdirSync(this.#keyring, { mode: 0o700 });
    this.#gpg(["--passphrase", "", "--quick-gen-key", "tests@example.com", "rsa3072", "sign", "1d"]);
    for (const system of systems) this.#publish(path.join(this.folder, system, "x86_64"), versions);
    execFileSync("gpgconf", ["--homedir", this.#keyring, "--kill", "all"]);
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  #publish(folder: string, versions: readonly string[]): void {
    mkdirSync(folder, { recursive: true });
    const packages = [
      this.#keyringPackage(),
      headersPackage(),
      ...versions.flatMap(driverPackages),
      ...pinningPackages(versions),
    ];
    const index = packages.map((content) => buildPackage(folder, content)).join("\n");
    writeFileSync(path.join(folder, "Packages"), index);
    const size = Buffer.byteLength(index);
    const digest = createHash("sha256").update(index).digest("hex");
    const date = new Date().toUTCString().replace("GMT", "UTC");
    writeFileSync(
      path.join(folder, "Release"),
      `Origin: NVIDIA\nLabel: NVIDIA CUDA\nArchitecture: amd64\nDate: ${date}\nSHA256:\n ${digest} ${size} Packages\n`,
    );
    this.#gpg(["--clearsign", "--output", path.join(folder, "InRelease"), path.join(folder, "Release")]);
  }

  #keyringPackage(): DebPackage {
    const key = execFileSync("gpg", ["--homedir", this.#keyring, "--batch", "--export"]);
    return { name: "cuda-keyring", version: "1.1-1", files: { "usr/share/keyrings/cuda-archive-keyring.gpg": key } };
  }

  #gpg(args: readonly string[]): void {
    execFileSync(
      "gpg",
      ["--homedir", this.#keyring, "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", ...args],
      {
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
  }
}

/** The headers of this machine's kernel, which the hosts run too. */
function headersPackage(): DebPackage {
  const source = `usr/src/linux-headers-${release()}`;
  return {
    name: `linux-headers-${release()}`,
    version: "1-1",
    files: { [`${source}/Makefile`]: "all:\n" },
    links: { [`usr/lib/modules/${release()}/build`]: `/${source}` },
  };
}

/** The driver in the parts in which NVIDIA's repository for Debian has it. */
function driverPackages(version: string): DebPackage[] {
  const full = `${version}-1`;
  const module = {
    version: full,
    files: {
      "usr/lib/fakegpu/module-version": version,
      "usr/lib/fakegpu/load": part("load.sh"),
      "usr/lib/systemd/system/fakegpu-load.service": part("fakegpu-load.service"),
    },
    links: {
      // What `systemctl enable` would make; it goes with the package.
      "usr/lib/systemd/system/basic.target.wants/fakegpu-load.service": "../fakegpu-load.service",
    },
    scripts: { postinst: "#!/bin/sh\nset -e\ntouch /run/reboot-required\n" },
  };
  return [
    { ...module, name: "nvidia-kernel-open-dkms", control: "Conflicts: nvidia-kernel-dkms\n" },
    { ...module, name: "nvidia-kernel-dkms", control: "Conflicts: nvidia-kernel-open-dkms\n" },
    {
      name: "nvidia-driver-cuda",
      version: full,
      control: `Depends: libcuda1 (= ${full})\n`,
      files: { "usr/bin/nvidia-smi": part("nvidia-smi.sh").replace("@VERSION@", version) },
    },
    {
      name: "libcuda1",
      version: full,
      architecture: "amd64",
      files: {
        [`usr/lib/x86_64-linux-gnu/libcuda.so.${version}`]: compiledLibrary(),
        [`usr/lib/x86_64-linux-gnu/libnvidia-ml.so.${version}`]: compiledLibrary(),
      },
      links: {
        "usr/lib/x86_64-linux-gnu/libcuda.so.1": `libcuda.so.${version}`,
        "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1": `libnvidia-ml.so.${version}`,
      },
      scripts: { postinst: "#!/bin/sh\nldconfig\n", postrm: "#!/bin/sh\nldconfig\n" },
    },
    {
      name: "nvidia-fabricmanager",
      version: full,
      files: {
        "usr/bin/nv-fabricmanager": `#!/bin/sh\necho "Fabric Manager version is : ${version}"\n`,
        "usr/lib/systemd/system/nvidia-fabricmanager.service":
          "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
      },
    },
  ];
}

function pinningPackages(versions: readonly string[]): DebPackage[] {
  const branches = new Set(versions.map((version) => version.split(".")[0] ?? ""));
  return [...branches].map((branch) => ({
    name: `nvidia-driver-pinning-${branch}`,
    version: `${branch}-1`,
    files: {
      [`etc/apt/preferences.d/nvidia-driver-pinning-${branch}`]: `Package: nvidia-* libcuda1 libnvidia-*\nPin: version ${branch}.*\nPin-Priority: 1000\n`,
    },
  }));
}

const part = (name: string) => readFileSync(path.join(PARTS, name), "utf8");

let library: Buffer | undefined;
function compiledLibrary(): Buffer {
  if (library === undefined) {
    const folder = mkdtempSync(path.join(tmpdir(), "tandem-libcuda-"));
    const output = path.join(folder, "libcuda.so");
    // Each package's file gets its own name; the loader goes by the link, so one name in the file will do.
    execFileSync("cc", ["-shared", "-fPIC", "-O1", "-o", output, path.join(PARTS, "libcuda.c")]);
    library = readFileSync(output);
    rmSync(folder, { recursive: true });
  }
  return library;
}

/** Builds a package into the folder and returns its paragraph of the index. */
function buildPackage(folder: string, content: DebPackage): string {
  const { name, version, architecture = "all", control = "", files = {}, links = {}, scripts = {} } = content;
  const root = mkdtempSync(path.join(tmpdir(), "tandem-deb-"));
  chmodSync(root, 0o755);
  const paragraph = `Package: ${name}\nVersion: ${version}\nArchitecture: ${architecture}\nMaintainer: tests <tests@example.com>\n${control}Description: stand-in of ${name}\n`;
  put(root, "DEBIAN/control", paragraph);
  for (const [file, text] of Object.entries({ ...files, ...prefixed("DEBIAN", scripts) })) put(root, file, text);
  for (const [link, target] of Object.entries(links)) {
    mkdirSync(path.dirname(path.join(root, link)), { recursive: true });
    symlinkSync(target, path.join(root, link));
  }
  const file = `${name}_${version}_${architecture}.deb`;
  execFileSync("dpkg-deb", ["--root-owner-group", "-Zgzip", "-b", root, path.join(folder, file)], { stdio: "ignore" });
  rmSync(root, { recursive: true });
  const deb = readFileSync(path.join(folder, file));
  const digest = createHash("sha256").update(deb).digest("hex");
  return `${paragraph}Filename: ./${file}\nSize: ${deb.length}\nSHA256: ${digest}\n`;
}

function put(root: string, file: string, content: string | Buffer): void {
  const target = path.join(root, file);
  mkdirSync(path.dirname(target), { recursive: true, mode: 0o755 });
  writeFileSync(target, content);
  chmodSync(target, content.toString("latin1").startsWith("#!") ? 0o755 : 0o644);
}

function prefixed(folder: string, entries: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(entries).map(([name, text]) => [`${folder}/${name}`, text]));
}
