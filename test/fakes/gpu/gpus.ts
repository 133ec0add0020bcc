import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import * as path from "node:path";

/** GPUs that a host seems to have; without a driver they are on the bus and nothing answers. */
export interface FakeGpus {
  readonly count: number;
  /** As nvidia-smi names them; "NVIDIA H100 80GB HBM3" when left out, as all that follows is an H100's. */
  readonly name?: string;
  readonly memoryMiB?: number;
  readonly computeCapability?: string;
  /** Device id on the bus, and lspci's name for it. */
  readonly pciId?: string;
  readonly pciName?: string;
  /** How each pair is linked, NV18 when left out; or a matrix. */
  readonly link?: string | readonly (readonly string[])[];
  /** What `topo -p2p r` says of each pair; OK when left out. */
  readonly peerAccess?: string;
  readonly nvswitches?: number;
  readonly uuids?: readonly string[];
  readonly busIds?: readonly string[];
  readonly temperaturesC?: readonly number[];
  readonly powerWatts?: readonly number[];
  readonly cuda?: string;
  /** What holds GPU memory; `memory.used` is their sum. */
  readonly processes?: readonly {
    readonly pid: number;
    readonly gpu?: number;
    readonly usedMiB: number;
    readonly name?: string;
  }[];
  readonly faults?: {
    /** nvidia-smi never answers. */
    readonly hang?: boolean;
    /** Library and module differ; installing another version without a reboot does the same by itself. */
    readonly mismatch?: boolean;
    /** The kernel refuses the module at the next boot, as with Secure Boot. */
    readonly moduleRefused?: boolean;
    /** Fallen off the bus while the driver runs. */
    readonly lost?: readonly number[];
    /** On the bus, and not seen by the driver. */
    readonly missing?: readonly number[];
    /** Uncorrectable errors by GPU. */
    readonly ecc?: Readonly<Record<number, number>>;
    /** Result of cuInit. */
    readonly cuda?: number;
  };
}

/** What a driver package is made of; see the head of driver-package.sh. */
export interface DriverPackage {
  readonly name?: string;
  readonly version?: string;
  readonly driver?: string;
  readonly parts?: readonly ("smi" | "library" | "module" | "fabric")[];
  readonly module?: "open" | "proprietary";
  readonly depends?: string;
  readonly provides?: string;
  readonly conflicts?: string;
  readonly architecture?: string;
  readonly fails?: boolean;
}

const BUS_UNIT = `[Unit]
Description=Show the stand-in GPUs on the bus
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/lib/fakegpu/show-bus
`;

/** Writes the GPUs into a host's root; also on a running host, where faults and processes count at once, the bus after a boot. */
export function writeGpus(root: string, gpus: FakeGpus): void {
  writeFileSync(path.join(root, "etc/fakegpu.json"), `${JSON.stringify(gpus, undefined, 2)}\n`);
}

/** Puts the GPUs on the bus of a host that is not running. The host needs Python. */
export function putGpus(root: string, gpus: FakeGpus): void {
  writeGpus(root, gpus);
  copyProgram("lspci.py", path.join(root, "usr/bin/lspci"));
  copyProgram("show-bus.sh", path.join(root, "usr/local/lib/fakegpu/show-bus"));
  const units = path.join(root, "etc/systemd/system");
  const wants = path.join(units, "sysinit.target.wants");
  mkdirSync(wants, { recursive: true });
  writeFileSync(path.join(units, "fakegpu-bus.service"), BUS_UNIT);
  symlinkSync("../fakegpu-bus.service", path.join(wants, "fakegpu-bus.service"));
}

/** Makes a driver package; `file` is its name on this machine. */
export function makeDriverPackage(file: string, options: DriverPackage = {}): void {
  const { parts, fails, ...rest } = options;
  const values = Object.entries(rest).map(([key, value]) => [key.toUpperCase(), value]);
  execFileSync(path.join(__dirname, "driver-package.sh"), [file], {
    env: {
      PATH: process.env["PATH"],
      ...Object.fromEntries(values),
      ...(parts && { PARTS: parts.join(" ") }),
      ...(fails && { FAILS: "yes" }),
    },
    timeout: 30_000,
  });
}

function copyProgram(name: string, target: string): void {
  mkdirSync(path.dirname(target), { recursive: true });
  copyFileSync(path.join(__dirname, name), target);
  chmodSync(target, 0o755);
}
