import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import type { TestHost } from "../test/fixtures/hosts/test-host";

const isVersion2 = existsSync("/sys/fs/cgroup/cgroup.controllers");
const hierarchy = isVersion2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpuacct";

/** Processor seconds of one run. */
export interface Used {
  /** On the client: the tool with all that it started there, also what goes on by itself, as shared connections do. */
  readonly client: number;
  readonly hosts: number;
}

/** Processor time by control group: other work on the machine makes a run longer, but this hardly. Needs root. */
export class ProcessorTime {
  private readonly own = `tandem-bench-${process.pid}`;

  /** From here on everything that this process starts is counted as the client's; the hosts have groups of their own. */
  constructor() {
    mkdirSync(path.join(hierarchy, this.own));
    writeFileSync(path.join(hierarchy, this.own, "cgroup.procs"), String(process.pid));
  }

  async of<Result>(
    hosts: readonly TestHost[],
    run: () => Promise<Result>,
  ): Promise<{ readonly result: Result; readonly used: Used }> {
    const groups = [...new Set(hosts.map(({ fleet }) => `tandem-test-${path.basename(fleet)}`))];
    const now = (): Used => ({
      client: secondsOf(this.own),
      hosts: groups.reduce((total, group) => total + secondsOf(group), 0),
    });
    const before = now();
    const result = await run();
    const after = now();
    return { result, used: { client: after.client - before.client, hosts: after.hosts - before.hosts } };
  }

  close(): void {
    try {
      writeFileSync(path.join(hierarchy, "cgroup.procs"), String(process.pid));
      rmdirSync(path.join(hierarchy, this.own));
    } catch {
      // A connection that is about to end by itself is still in it; an empty group costs nothing.
    }
  }
}

function secondsOf(group: string): number {
  if (!isVersion2) return Number(readFileSync(path.join(hierarchy, group, "cpuacct.usage"), "utf8")) / 1e9;
  const stat = readFileSync(path.join(hierarchy, group, "cpu.stat"), "utf8");
  return Number(/^usage_usec (\d+)$/m.exec(stat)?.[1]) / 1e6;
}
