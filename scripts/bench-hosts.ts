/**
 * Tandem beside Ansible and pyinfra: the same desired state on the same number of fresh hosts (real systemd and OpenSSH on this
 * machine, a stand-in for vLLM), each tool on a fleet of its own, one after the other. Measured: the first run on bare hosts, runs
 * that change nothing, and a run that repairs a stopped unit on one host and a changed unit file on another; each in wall time and in
 * processor seconds, which other work on the machine changes little.
 * Usage: bench-hosts.ts [HOSTS...]   numbers of hosts, 8 without any
 */
import { loadavg } from "node:os";
import { ensureEngine } from "../bootstrap/engine";
import { startHosts, type Fleet } from "../test/fixtures/hosts/fleet";
import type { TestHost } from "../test/fixtures/hosts/test-host";
import { SUPPLIES_ON_HOST } from "../test/hosts/deployment";
import { tools, type Tool } from "./bench-tools";
import { ProcessorTime, type Used } from "./processor-time";

const NO_OP_RUNS = 3;

interface Measured {
  readonly name: string;
  readonly first: Cost;
  /** The median of `NO_OP_RUNS`. */
  readonly noOp: Cost;
  readonly repair: Cost;
}

interface Cost {
  readonly seconds: number;
  readonly used: Used;
}

/** Takes away what is being measured; asked to end, the bench leaves neither hosts nor folders. */
let cleanUp: () => Promise<void> = () => Promise.resolve();

async function main(): Promise<void> {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => void cleanUp().finally(() => process.exit(130)));
  }
  const counts = process.argv.slice(2).map(Number);
  // Made once on a machine; no tool's first run counts it.
  await ensureEngine({ log: console.log });
  const processors = new ProcessorTime();
  try {
    for (const count of counts.length === 0 ? [8] : counts) {
      const measured: Measured[] = [];
      for (const { name, open } of tools()) measured.push(await measure(name, open(), count, processors));
      report(count, measured);
    }
  } finally {
    processors.close();
  }
}

async function measure(name: string, tool: Tool, count: number, processors: ProcessorTime): Promise<Measured> {
  let fleet: Fleet | undefined;
  cleanUp = async () => {
    await fleet?.close();
    tool.remove();
  };
  try {
    const names = Array.from({ length: count }, (_, index) => `b${index + 1}`);
    fleet = await startHosts(names, { diskGiB: 8, mounts: { [SUPPLIES_ON_HOST]: tool.supplies } });
    const hosts = names.map((host) => (fleet as Fleet).host(host));
    tool.configure(hosts);
    const timedRun = async () => {
      const { result, used } = await processors.of(hosts, () => tool.run());
      return { ...result, used };
    };
    console.log(`${name}, ${count} hosts; load average ${loadavg()[0]?.toFixed(1)}`);
    const first = await timedRun();
    console.log(`  from bare          ${inWords(first)}${first.remark === undefined ? "" : `; ${first.remark}`}`);
    await expectServing(hosts, tool);
    const noOps: (Cost & { changed: number })[] = [];
    for (let run = 0; run < NO_OP_RUNS; run++) {
      const noOp = await timedRun();
      noOps.push(noOp);
      console.log(`  nothing to change  ${inWords(noOp)}`);
    }
    const repair = await repairDrift(hosts, tool, Math.max(...noOps.map(({ changed }) => changed)), timedRun);
    console.log(`  repair             ${inWords(repair)}`);
    const noOp = noOps.toSorted((one, other) => one.seconds - other.seconds)[Math.floor(NO_OP_RUNS / 2)];
    if (noOp === undefined) throw new Error("no run was measured");
    return { name, first, noOp, repair };
  } finally {
    await cleanUp();
    cleanUp = () => Promise.resolve();
  }
}

function inWords({ seconds, used }: Cost): string {
  return `${seconds.toFixed(2)} s, processor seconds ${used.client.toFixed(1)} + ${used.hosts.toFixed(1)}`;
}

/** Stops the unit of the first host and changes the unit file of the last: one run has to see and mend both. */
async function repairDrift<Run extends Cost & { readonly changed: number }>(
  hosts: readonly TestHost[],
  tool: Tool,
  changedWhenQuiet: number,
  timedRun: () => Promise<Run>,
): Promise<Run> {
  const [stopped, altered] = [hosts[0], hosts.at(-1)] as [TestHost, TestHost];
  const file = `/etc/systemd/system/${tool.unit}`;
  const before = await altered.exec(`cat ${file}`);
  await stopped.exec(`systemctl stop ${tool.unit}`);
  await altered.exec(`echo '# changed' >>${file}`);
  const repair = await timedRun();
  if (repair.changed <= changedWhenQuiet) throw new Error(`${tool.name} says that it changed nothing`);
  await expectServing(hosts, tool);
  if ((await altered.exec(`cat ${file}`)) !== before) throw new Error(`${tool.name} left the changed unit file`);
  const after = await tool.run();
  if (after.changed > changedWhenQuiet) throw new Error(`${tool.name} is not quiet after the repair`);
  return repair;
}

async function expectServing(hosts: readonly TestHost[], { name, unit, port }: Tool): Promise<void> {
  const look = `systemctl is-active ${unit} && systemctl is-enabled ${unit} && curl -fs -o /dev/null http://127.0.0.1:${port}/health`;
  for (const host of hosts) {
    const { status, stdout, stderr } = await host.tryExec(look);
    if (status !== 0) throw new Error(`${host.name} does not serve after ${name}: ${stdout} ${stderr}`);
  }
}

function report(count: number, measured: readonly Measured[]): void {
  const [own, ansible] = measured;
  if (own === undefined || ansible === undefined) return;
  console.log(
    `\nWall time (processor seconds, client + hosts)\n| ${count} hosts | from bare | nothing to change | repair of two hosts |\n|---|---|---|---|`,
  );
  const cell = ({ seconds, used }: Cost) =>
    `${seconds.toFixed(1)} s (${used.client.toFixed(1)} + ${used.hosts.toFixed(1)})`;
  for (const { name, first, noOp, repair } of measured) {
    console.log(`| ${name} | ${cell(first)} | ${cell(noOp)} | ${cell(repair)} |`);
  }
  const total = ({ used }: Cost) => used.client + used.hosts;
  const verdict = (isMet: boolean) => (isMet ? "met" : "missed");
  for (const other of measured.slice(1)) {
    const ratio = other.first.seconds / own.first.seconds;
    const ofProcessors = total(other.first) / total(own.first);
    console.log(
      `from bare at least as fast as ${other.name}: ${ratio.toFixed(2)} ×, processors ${ofProcessors.toFixed(2)} ×, ${verdict(ratio >= 1)}`,
    );
  }
  const ratio = ansible.noOp.seconds / own.noOp.seconds;
  const ofProcessors = total(ansible.noOp) / total(own.noOp);
  console.log(
    `nothing to change five times faster than Ansible: ${ratio.toFixed(1)} ×, processors ${ofProcessors.toFixed(1)} ×, ${verdict(ratio >= 5)}`,
  );
  console.log(
    `nothing to change under 5 s: ${own.noOp.seconds.toFixed(2)} s, ${verdict(own.noOp.seconds < 5)}; load average ${loadavg()[0]?.toFixed(1)}\n`,
  );
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
