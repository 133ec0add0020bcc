import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import * as path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from "vitest";
import { sweepHost } from "../../bootstrap/runner/host";
import { readChecks, readFacts } from "../../bootstrap/runner/read-host";
import type { SshTarget } from "../../bootstrap/runner/request";
import { callSsh } from "../../bootstrap/runner/ssh";
import { closeConnections } from "../../bootstrap/runner/ssh-connection";
import { applyStep } from "../../bootstrap/runner/step";
import { describeOnHosts, startHosts, type Fleet, type TestHost } from "../fixtures/hosts/hosts";
import { Client, processTexts } from "./ssh-workbench";

let client: Client;
vi.mock("../../bootstrap/runner/package-root", async (original) => ({
  ...(await original<object>()),
  hostScriptsDirectory: () => client.scripts,
}));

let fleet: Fleet;
let host: TestHost;
let jump: TestHost;
const used: SshTarget[] = [];

/** A target that is closed after the test. */
function use(target: SshTarget): SshTarget {
  used.push(target);
  return target;
}

const facts = (target: SshTarget) => readFacts(use(target), 8000);
const placed = () => host.tryExec("ls /var/lib/tandem/scripts 2>/dev/null");

describeOnHosts("a host over SSH", () => {
  beforeAll(async () => {
    fleet = await startHosts(["a", "jump"]);
    host = fleet.host("a");
    jump = fleet.host("jump");
  });
  afterAll(() => fleet?.close());
  beforeEach(() => {
    client = new Client();
  });
  afterEach(async () => {
    await client.close(used.splice(0));
  });

  it("is looked at by root, by a user with sudo and by one without, and keeps nothing of it", async () => {
    const seen = await Promise.all((["root", "ops", "guest"] as const).map((user) => facts(host.sshTarget(user))));
    expect(seen.map(({ name, isRoot }) => [name, isRoot])).toEqual([
      ["a", true],
      ["a", true],
      ["a", false],
    ]);
    expect(await facts({ ...host.sshTarget("ops"), sudo: "never" })).toMatchObject({ isRoot: false });
    expect(await readChecks(use(host.sshTarget()), "ssh-test")).toEqual([]);
    const left = await host.exec("ls -d /var/lib/tandem /home/*/.local /tmp/tandem* 2>/dev/null || :");
    expect(left).toBe("");
  });

  it("refuses a user who has no sudo where root is asked for, and says how to give it", async () => {
    const refused = facts({ ...host.sshTarget("guest"), sudo: "always" });
    await expect(refused).rejects.toThrow(/guest can't become root without a password — sudo said ".+" — .*NOPASSWD/);
  });

  it("does a step with progress and a result, keeps its scripts meanwhile, and takes them away with the last stack", async () => {
    const target = use(host.sshTarget("ops"));
    const secrets = { apiKey: "canary-0123456789" };
    const result = await applyStep(
      client.request(target, { lines: 3 }, { secrets, values: { TANDEM_VALUE: `it's "$(id)"` } }),
      {
        onProgress: client.say,
      },
    );
    expect(result).toEqual({ made: true, value: `it's "$(id)"` });
    expect(client.lines).toEqual(["line 1 of 3", "line 2 of 3", "line 3 of 3"]);
    const check = {
      script: "work.sh",
      argv: ["check"],
      environment: { TANDEM_STACK: "ssh-test" },
      timeoutSeconds: 20,
    } as const;
    expect(JSON.parse((await callSsh(target, check)).stdout)).toMatchObject({ step: "probe", holds: true });
    expect((await placed()).stdout).toMatch(/^[0-9a-f]{64}$/m);
    await sweepHost(target, "ssh-test", client.say);
    expect((await host.tryExec("ls -d /var/lib/tandem")).status).not.toBe(0);
  });

  it("passes a step's failure on with its last words", async () => {
    const failing = applyStep(client.request(use(host.sshTarget()), { lines: 2, fail: 31 }), {
      onProgress: client.say,
    });
    await expect(failing).rejects.toThrow(/^probe failed on a \(.*\): line 2 of 2/);
    await sweepHost(host.sshTarget(), "ssh-test");
  });

  it("puts scripts again that were damaged there, and removes those of another version", async () => {
    const target = use(host.sshTarget());
    const request = client.request(target, {});
    await applyStep(request, { onProgress: client.say });
    await host.exec("mkdir /var/lib/tandem/scripts/0123; echo exit 0 >/var/lib/tandem/scripts/current/work.sh");
    client.write("host/new.sh", "exit 0\n");
    await applyStep(request, { onProgress: client.say });
    await host.exec("cd /var/lib/tandem/scripts && : >current/common.sh");
    expect(await applyStep(request, { onProgress: client.say })).toMatchObject({ made: true });
    expect((await placed()).stdout.trim().split("\n")).toHaveLength(2);
    await host.exec("cd /var/lib/tandem/scripts/current && sha256sum -c --status SHA256SUMS && test -f new.sh");
    await sweepHost(target, "ssh-test");
  });

  it("shares one connection among all calls, and ends it when told", async () => {
    const target = use(host.sshTarget());
    await Promise.all(Array.from({ length: 6 }, () => facts(target)));
    const sessions = "ss -Htn state established '( sport = :22 )' | grep -c .";
    expect(Number(await host.exec(sessions))).toBe(1);
    const folder = path.join(client.root, "home/ssh");
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    await closeConnections([target]);
    await vi.waitFor(async () => expect((await host.tryExec(sessions)).stdout.trim()).toBe("0"), 5000);
    expect(readdirSync(folder).filter((name) => /^[0-9a-f]{16}$/.test(name))).toEqual([]);
  });

  it("takes no connection away from somebody who still uses it", async () => {
    const target = use(host.sshTarget());
    client.write("host/facts.sh", "echo one; until [ -e /run/go-on ]; do sleep 0.1; done; echo two\n");
    let output = "";
    const following = callSsh(target, {
      script: "facts.sh",
      argv: [],
      environment: {},
      timeoutSeconds: 60,
      onOutput: (text) => (output += text),
    });
    following.catch(() => undefined);
    await vi.waitFor(() => expect(output).toBe("one\n"), 20_000);
    await closeConnections([target]);
    await host.exec("touch /run/go-on");
    expect(await following).toMatchObject({ code: 0, stdout: "one\ntwo\n" });
    await host.exec("rm /run/go-on");
    const sessions = "ss -Htn state established '( sport = :22 )' | grep -c .";
    await vi.waitFor(async () => expect((await host.tryExec(sessions)).stdout.trim()).toBe("0"), 5000);
  });

  it("reads through the noise of a login shell, and says when there is no shell", async () => {
    await host.exec(
      "printf 'echo noise; echo noise >&2; printf half' >/home/guest/.bashrc; cp /home/guest/.bashrc /home/guest/.bash_logout",
    );
    try {
      expect(await facts(host.sshTarget("guest"))).toMatchObject({ name: "a" });
      await closeConnections(used);
      await host.exec("usermod -s /usr/sbin/nologin guest");
      await expect(facts(host.sshTarget("guest"))).rejects.toThrow(
        /runs no commands for this user — it said ".*not available/,
      );
    } finally {
      await host.exec("usermod -s /bin/bash guest; rm -f /home/guest/.bash_logout; : >/home/guest/.bashrc");
    }
  });

  it("goes through a jump host whose key is verified too", async () => {
    const known = readFileSync(host.knownHostsFile, "utf8");
    client.set({
      TANDEM_SSH_CONFIG: client.write("ssh_config", `UserKnownHostsFile ${client.write("known", known)}\n`),
    });
    const through = { ...host.sshTarget(), hostKey: undefined, jumpHost: `root@${jump.address}` };
    expect(await facts(through)).toMatchObject({ name: "a" });
    await closeConnections(used);
    client.write(
      "known",
      known
        .split("\n")
        .filter((line) => !line.includes(jump.address))
        .join("\n"),
    );
    await expect(facts(through)).rejects.toThrow(
      /the jump host root@\S+ can't be reached: its host key is not known — it has ssh-ed25519 SHA256:/,
    );
  });

  it("keeps secrets out of command lines, environments, logs and disks of both sides", async () => {
    const target = use(host.sshTarget("ops"));
    const canary = `canary${"q".repeat(16)}${process.pid}`;
    const work = applyStep(client.request(target, { lines: 4, sleep: 0.5 }, { secrets: { apiKey: canary } }), {
      onProgress: client.say,
    });
    await vi.waitFor(() => expect(client.said).toContain("line 2 of 4"), 15_000);
    for (const [id, text] of processTexts()) expect(text, `process ${id}`).not.toContain(canary);
    await work;
    expect(client.said).not.toContain(canary);
    const grep = (folder: string) =>
      execFileSync("sh", ["-c", `grep -rlF ${canary} ${folder} || :`], { encoding: "utf8" });
    expect(grep(client.root)).toBe("");
    const dirs = "/var/lib /var/log /run /tmp /home /root /etc";
    expect(
      await host.exec(`grep -rlsF --exclude-dir=proc -- ${canary.slice(0, 6)}${canary.slice(6)} ${dirs} || :`),
    ).toBe("");
    expect(await host.exec(`journalctl --no-pager | grep -cF ${canary} || :`)).toBe("0");
    await sweepHost(target, "ssh-test");
  });

  it("sends nothing of the client's environment", async () => {
    await host.exec("printf 'AcceptEnv *\\n' >/etc/ssh/sshd_config.d/all.conf && systemctl restart ssh");
    client.set({ PULUMI_CONFIG_PASSPHRASE: "canary", AWS_SECRET_ACCESS_KEY: "canary", NCCL_TEST: "canary" });
    client.write("ssh_config", "SendEnv PULUMI_* AWS_* NCCL_*\nUserKnownHostsFile /dev/null\n");
    const { environment } = await facts(host.sshTarget());
    expect(environment).toEqual({});
    await host.exec("rm /etc/ssh/sshd_config.d/all.conf; systemctl restart ssh");
  });

  it("answers over an open connection in a fraction of a second", async () => {
    const target = use(host.sshTarget());
    const call = () =>
      callSsh(target, {
        script: "work.sh",
        argv: ["check"],
        environment: { TANDEM_STACK: "ssh-test" },
        timeoutSeconds: 20,
      });
    await applyStep(client.request(target, {}), { onProgress: client.say });
    await closeConnections([target]);
    const times: number[] = [];
    for (let round = 0; round < 6; round++) {
      const startedAt = performance.now();
      expect((await call()).code).toBe(0);
      times.push(performance.now() - startedAt);
    }
    const [cold = 0, ...warm] = times;
    console.log(`no-op call: ${Math.round(cold)} ms cold, ${Math.round(Math.min(...warm))} ms warm`);
    expect(Math.min(...warm)).toBeLessThan(cold);
    await sweepHost(target, "ssh-test");
  });
});
