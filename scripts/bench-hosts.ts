/**
 * Tandem beside Ansible and pyinfra: the same desired state on the same number of fresh hosts (real systemd and OpenSSH on this
 * machine, a stand-in for vLLM), each tool on a fleet of its own, one after the other. Measured: the first run on bare hosts, runs
 * that change nothing, and a run that repairs a stopped unit on one host and a changed unit file on another.
 * Usage: bench-hosts.ts [HOSTS...]   numbers of hosts, 8 without any
 */
import { loadavg } from "node:os";
import { startHosts, type Fleet } from "../test/fixtures/hosts/fleet";
import type { TestHost } from "../test/fixtures/hosts/test-host";
import { SUPPLIES_ON_HOST } from "../test/hosts/deployment";
import { tools, type Tool } from "./bench-tools";

const NO_OP_RUNS = 3;

interface Measured {
  readonly name: string;
  readonly firstSeconds: number;
  readonly noOpSeconds: number;
  readonly noOpRuns: readonly number[];
  readonly repairSeconds: number;
}

/** Takes away what is being measured; asked to end, the bench leaves neither hosts nor folders. */
let cleanUp: () => Promise<void> = () => Promise.resolve();

async function main(): Promise<void> {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => void cleanUp().finally(() => process.exit(130)));
  }
  const counts = process.argv.slice(2).map(Number);
  for (const count of counts.length === 0 ? [8] : counts) {
    const measured: Measured[] = [];
    for (const { name, open } of tools()) measured.push(await measure(name, open(), count));
    report(count, measured);
  }
}

async function measure(name: string, tool: Tool, count: number): Promise<Measured> {
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
    console.log(`${name}, ${count} hosts; load average ${loadavg()[0]?.toFixed(1)}`);
    const first = await tool.run();
    await expectServing(hosts, tool);
    const noOps: number[] = [];
    const quiet: number[] = [];
    for (let run = 0; run < NO_OP_RUNS; run++) {
      const { seconds, changed } = await tool.run();
      noOps.push(seconds);
      quiet.push(changed);
    }
    const repairSeconds = await repair(hosts, tool, Math.max(...quiet));
    console.log(
      `  first ${first.seconds.toFixed(1)} s, no change ${noOps.map((seconds) => seconds.toFixed(2)).join(" ")} s, repair ${repairSeconds.toFixed(1)} s`,
    );
    const noOpSeconds = noOps.toSorted((one, other) => one - other)[Math.floor(NO_OP_RUNS / 2)] ?? Number.NaN;
    return { name, firstSeconds: first.seconds, noOpSeconds, noOpRuns: noOps, repairSeconds };
  } finally {
    await cleanUp();
    cleanUp = () => Promise.resolve();
  }
}

/** Stops the unit of the first host and changes the unit file of the last: one run has to see and mend both. */
async function repair(hosts: readonly TestHost[], tool: Tool, changedWhenQuiet: number): Promise<number> {
  const [stopped, altered] = [hosts[0], hosts.at(-1)] as [TestHost, TestHost];
  const file = `/etc/systemd/system/${tool.unit}`;
  const before = await altered.exec(`cat ${file}`);
  await stopped.exec(`systemctl stop ${tool.unit}`);
  await altered.exec(`echo '# changed' >>${file}`);
  const { seconds, changed } = await tool.run();
  if (changed <= changedWhenQuiet) throw new Error(`${tool.name} says that it changed nothing`);
  await expectServing(hosts, tool);
  if ((await altered.exec(`cat ${file}`)) !== before) throw new Error(`${tool.name} left the changed unit file`);
  const after = await tool.run();
  if (after.changed > changedWhenQuiet) throw new Error(`${tool.name} is not quiet after the repair`);
  return seconds;
}

async function expectServing(hosts: readonly TestHost[], { name, unit, port }: Tool): Promise<void> {
  const look = `systemctl is-active ${unit} && systemctl is-enabled ${unit} && curl -fs -o /dev/null http://127.0.0.1:${port}/health`;
  for (const host of hosts) {
    const { status, stdout, stderr } = await host.tryExec(look);
    if (status !== 0) throw new Error(`${host.name} does not serve after ${name}: ${stdout} ${stderr}`);
  }
}

function report(count: number, measured: readonly Measured[]): void {
  const own = measured[0];
  if (own === undefined) return;
  console.log(`\n| ${count} hosts | from bare | nothing to change | repair of two hosts |\n|---|---|---|---|`);
  const cell = (seconds: number, ownSeconds: number) =>
    `${seconds.toFixed(1)} s${seconds === ownSeconds ? "" : ` (${(seconds / ownSeconds).toFixed(1)} ×)`}`;
  for (const { name, firstSeconds, noOpSeconds, repairSeconds } of measured) {
    console.log(
      `| ${name} | ${cell(firstSeconds, own.firstSeconds)} | ${cell(noOpSeconds, own.noOpSeconds)} | ${cell(repairSeconds, own.repairSeconds)} |`,
    );
  }
  const ansible = measured[1];
  if (ansible === undefined) return;
  const isFirstMet = own.firstSeconds <= Math.min(...measured.map(({ firstSeconds }) => firstSeconds));
  const ratio = ansible.noOpSeconds / own.noOpSeconds;
  console.log(`from bare at least as fast as both: ${isFirstMet ? "met" : "missed"}`);
  console.log(
    `nothing to change five times faster than Ansible: ${ratio.toFixed(1)} ×, ${ratio >= 5 ? "met" : "missed"}`,
  );
  console.log(
    `nothing to change under 5 s: ${own.noOpSeconds.toFixed(2)} s, ${own.noOpSeconds < 5 ? "met" : "missed"}; load average ${loadavg()[0]?.toFixed(1)}\n`,
  );
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
