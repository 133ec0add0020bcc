import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { describe } from "vitest";
import { writeStandInImage } from "../fakes/vllm/image";
import { writeStandIn } from "../fakes/vllm/runtime";
import { TestHost } from "./host";

/** What podman runs containers by; crun refuses control groups of both versions at once, as this machine may have. */
function runtimeOfPodman(): string | undefined {
  const mixed = existsSync("/sys/fs/cgroup/unified");
  return (mixed ? ["runc"] : ["crun", "runc"]).find((name) => has(name));
}

const has = (program: string) => spawnSync("sh", ["-c", `command -v ${program}`]).status === 0;

/** `describe` for tests with the real podman; where it can't be had they are skipped and say why. */
export function describeWithPodman(title: string, tests: () => void): void {
  if (process.getuid?.() === 0 && has("podman") && runtimeOfPodman() !== undefined && existsSync("/usr/bin/python3")) {
    describe(title, tests);
    return;
  }
  console.warn(`Skipped, needs root, podman and runc or crun (apt-get install podman runc): ${title}`);
  describe.skip(title, tests);
}

/** A host of a test's own whose podman keeps everything in the host's folder: nothing of this machine's containers is touched. */
export class ContainerHost extends TestHost {
  readonly archive = path.join(this.root, "image.tar");
  readonly model = path.join(this.root, "stand-in/model");
  readonly storage = path.join(this.root, "containers");

  constructor(environment: Readonly<Record<string, string>> = {}) {
    super({}, environment);
    this.environment["TANDEM_CONTAINER_ENGINE"] ??= "podman";
    mkdirSync(this.storage);
    const set = (variable: string, file: string, text: string) => {
      writeFileSync((this.environment[variable] = path.join(this.storage, file)), text);
    };
    set(
      "CONTAINERS_STORAGE_CONF",
      "storage.conf",
      `[storage]\ndriver = "vfs"\ngraphroot = "${this.storage}/graph"\nrunroot = "${this.storage}/run"\n`,
    );
    // This machine may lack the right to raise limits, and has no systemd to make control groups.
    set(
      "CONTAINERS_CONF",
      "containers.conf",
      `[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]\n` +
        `[engine]\nruntime = "${runtimeOfPodman()}"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n`,
    );
    mkdirSync(path.join(this.root, "stand-in"));
    writeStandIn(path.join(this.root, "stand-in"));
    writeStandInImage(this.archive);
  }

  podman(...argv: string[]): string {
    return execFileSync("podman", argv, { encoding: "utf8", env: { ...process.env, ...this.environment } }).trim();
  }

  override async close(): Promise<void> {
    spawnSync("podman", ["rm", "-af"], { env: { ...process.env, ...this.environment } });
    // Bound over itself by podman for as long as the machine runs.
    spawnSync("umount", ["-l", path.join(this.storage, "graph/vfs"), path.join(this.storage, "graph")]);
    await super.close();
  }
}
