import { spawn, type ChildProcess } from "node:child_process";
import * as path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from "vitest";
import { sweepHost } from "../../bootstrap/runner/host";
import type { SshTarget } from "../../bootstrap/runner/request";
import { applyStep } from "../../bootstrap/runner/step";
import { describeOnHosts, startHosts, type Fleet, type TestHost } from "../fixtures/hosts/hosts";
import { answerOf } from "../host/host";
import { Client, lineNumbers } from "./ssh-workbench";

let client: Client;
vi.mock("../../bootstrap/runner/package-root", async (original) => ({
  ...(await original<object>()),
  hostScriptsDirectory: () => client.scripts,
}));

let fleet: Fleet;
let host: TestHost;
const target = (): SshTarget => host.sshTarget("ops");
const STEP = "/var/lib/tandem/stacks/ssh-test/steps/probe";
const runs = async () => Number(await host.exec(`grep -c . ${STEP}/files/runs || :`));
const apply = (document: unknown, more = {}) =>
  applyStep(client.request(target(), document, more), { onProgress: client.say });
const said = (pattern: RegExp, seconds = 30) =>
  vi.waitFor(() => expect(client.said).toMatch(pattern), { timeout: seconds * 1000, interval: 100 });
const upTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1);
const seconds = (count: number) => new Promise((resolve) => setTimeout(resolve, count * 1000));

describeOnHosts("a step over SSH goes through", () => {
  beforeAll(async () => {
    fleet = await startHosts(["c"]);
    host = fleet.host("c");
  });
  afterAll(() => fleet?.close());
  beforeEach(() => {
    client = new Client();
  });
  afterEach(async () => {
    // Where a test failed in between.
    await host.heal();
    client.set({ TANDEM_RECONNECT_SECONDS: "60" });
    await sweepHost(target(), "ssh-test");
    await client.close([target()]);
  });

  it("a link that is cut for 20 s: nothing is done twice or shown twice", async () => {
    const work = apply({ lines: 40, sleep: 1 });
    await said(/line 3 of/);
    await host.partition();
    await seconds(20);
    await host.heal();
    expect(await work).toMatchObject({ made: true });
    expect(client.said).toMatch(
      /lost the link to c .*; the work goes on there; connecting again\n[^]*the link to c .* is back/,
    );
    expect(lineNumbers(client.lines)).toEqual(upTo(40));
    expect(await runs()).toBe(1);
  });

  it("a cut in which the work ends: its result is taken", async () => {
    const work = apply({ lines: 6, sleep: 1 });
    await said(/line 2 of/);
    await host.partition();
    await vi.waitFor(async () => await host.exec(`test -f ${STEP}/files/made`), { timeout: 20_000, interval: 500 });
    await said(/lost the link/, 40);
    await host.heal();
    expect(await work).toMatchObject({ made: true });
    expect(lineNumbers(client.lines)).toEqual(upTo(6));
    expect(await runs()).toBe(1);
  });

  it("a link that is cut for ever: it ends at its limit, and the next run attaches", async () => {
    client.set({ TANDEM_RECONNECT_SECONDS: "5" });
    const work = apply({ lines: 60, sleep: 1 });
    const outcome = expect(work).rejects.toThrow(
      /the link to c .* is lost — .* for 5 s; when it has come back with another address, set that in ssh.hosts — the work goes on there/,
    );
    await said(/line 2 of/);
    await host.partition();
    await outcome;
    await host.heal();
    client.lines.length = 0;
    const next = apply({ lines: 60, sleep: 1 });
    await said(/already being done, attaching\nline 1 of/);
    expect(await next).toMatchObject({ made: true });
    expect(await runs()).toBe(1);
  });

  it("a restart of sshd", async () => {
    const work = apply({ lines: 8, sleep: 0.5 });
    await said(/line 2 of/);
    await host.restartSshd();
    expect(await work).toMatchObject({ made: true });
    expect(lineNumbers(client.lines)).toEqual(upTo(8));
  });

  it("a power loss in its middle: it is done again", async () => {
    const work = apply({ lines: 12, sleep: 1 });
    await said(/line 3 of/);
    await host.powerCycle();
    expect(await work).toMatchObject({ made: true });
    expect(client.said).toMatch(/its work ended with the host's restart; doing it again\nline 1 of 12\n/);
    expect(client.lines.at(-1)).toBe("line 12 of 12");
  });

  it("the restart that it asks for, twice at most", async () => {
    const restart = { step: "restart" as "lease" };
    expect(await apply({ restarts: 1 }, restart)).toEqual({ boots: 2 });
    expect(client.said).toMatch(
      /needs a restart of c .*: restarting it\nwaiting for c .* to restart.*\n[^]*c .* has restarted, after \d+ s/,
    );
    await expect(apply({ always: true }, restart)).rejects.toThrow(/restart asks for another restart of c .* after 2/);
  });

  it("a restart that never comes back: it says so at its limit", async () => {
    client.set({ TANDEM_REBOOT_SECONDS: "4" });
    await host.neverComesBack();
    await expect(apply({ restarts: 9 }, { step: "restart" as "lease" })).rejects.toThrow(
      /did not come back within 4 s after its restart was asked for — .* — fix: look at its console/,
    );
    await vi.waitFor(() => host.start(), { timeout: 30_000, interval: 1000 });
  });

  it("a user who may not restart the host: it says so", async () => {
    const guest = host.sshTarget("guest");
    const work = applyStep(client.request(guest, { restarts: 9 }, { step: "restart" as "lease" }), {
      onProgress: client.say,
    });
    await expect(work).rejects.toThrow(/can't be restarted — .*guest may not do that — fix: connect as root/);
    await sweepHost(guest, "ssh-test");
    await client.close([guest]);
    client = new Client();
  });

  it("the end of its runner, killed or asked to: the next one attaches", async () => {
    for (const signal of ["SIGKILL", "SIGTERM"] as const) {
      const runner = startRunner({ lines: 14, sleep: 0.5 });
      await vi.waitFor(async () => await host.exec(`grep -q 'line 2' ${STEP}/runs/*/log`), {
        timeout: 30_000,
        interval: 200,
      });
      const ended = answerOf(runner);
      runner.kill(signal);
      await ended;
      client.lines.length = 0;
      expect(await apply({ lines: 14, sleep: 0.5 })).toMatchObject({ made: true });
      expect(client.said).toMatch(/already being done, attaching\nline 1 of 14/);
      expect(await runs()).toBe(1);
      await sweepHost(target(), "ssh-test");
    }
  });
});

/** The runner in a process of its own, from a copy of the package that has the test's scripts. */
function startRunner(document: unknown): ChildProcess {
  const program = path.join(client.copyPackage(), "bootstrap/runner/main.ts");
  const child = spawn(process.execPath, ["--import", "tsx", program, "apply"], {
    cwd: path.resolve(__dirname, "../.."),
    stdio: ["pipe", "pipe", "pipe"],
  });
  child.stdin.end(JSON.stringify(client.request(target(), document)));
  return child;
}
