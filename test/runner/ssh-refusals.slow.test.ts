import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import * as path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from "vitest";
import { sweepHost } from "../../bootstrap/runner/host";
import { readFacts } from "../../bootstrap/runner/read-host";
import type { SshTarget } from "../../bootstrap/runner/request";
import { callSsh } from "../../bootstrap/runner/ssh";
import { closeConnections } from "../../bootstrap/runner/ssh-connection";
import { applyStep } from "../../bootstrap/runner/step";
import { describeOnHosts, startHosts, type Fleet, type TestHost } from "../fixtures/hosts/hosts";
import { Client } from "./ssh-workbench";

let client: Client;
vi.mock("../../bootstrap/runner/package-root", async (original) => ({
  ...(await original<object>()),
  hostScriptsDirectory: () => client.scripts,
}));

let fleet: Fleet;
let host: TestHost;
const used: SshTarget[] = [];
const facts = (target: SshTarget) => {
  used.push(target);
  return readFacts(target, 8000);
};
const fingerprint = (key: string) =>
  execFileSync("ssh-keygen", ["-lf", client.write("some.pub", `${key}\n`)], { encoding: "utf8" }).split(" ")[1] ?? "";

describeOnHosts("who may be reached over SSH, and what is said otherwise", () => {
  beforeAll(async () => {
    fleet = await startHosts(["b"]);
    host = fleet.host("b");
  });
  afterAll(() => fleet?.close());
  beforeEach(() => {
    client = new Client();
  });
  afterEach(async () => {
    // Where a test failed in between.
    await host.heal();
    await host.freeDisk();
    await client.close(used.splice(0));
  });

  it("holds a host to a pinned fingerprint, of whatever kind of key", async () => {
    await host.exec("ssh-keygen -q -t rsa -N '' -f /etc/ssh/ssh_host_rsa_key && systemctl restart ssh");
    const rsa = await host.exec("cut -d' ' -f1,2 /etc/ssh/ssh_host_rsa_key.pub");
    for (const key of [host.access().hostKey, rsa]) {
      expect(await facts({ ...host.sshTarget(), hostKey: fingerprint(key) })).toMatchObject({ name: "b" });
    }
    const other = `SHA256:${"A".repeat(43)}`;
    await expect(facts({ ...host.sshTarget(), hostKey: other })).rejects.toThrow(
      new RegExp(`its host key is not the pinned one — got .*SHA256:.* — pinned: ${other}`),
    );
  });

  it("refuses a host that nobody knows, with its fingerprint and the way to trust it", async () => {
    const key = fingerprint(host.access().hostKey).replaceAll(/[+/]/g, "\\$&");
    await expect(facts({ ...host.sshTarget(), hostKey: undefined })).rejects.toThrow(
      new RegExp(`its host key is not known — it has ssh-ed25519 ${key} — .*ssh.hostKeys to accept-new`),
    );
  });

  it("knows a host that the user's own configuration knows", async () => {
    const known = client.write("known", readFileSync(host.knownHostsFile, "utf8"));
    client.write(
      "ssh_config",
      `Host alias\n  HostName ${host.address}\n  User ops\nMatch all\n  UserKnownHostsFile ${known}\n`,
    );
    const { user: _, ...target } = { ...host.sshTarget(), hostKey: undefined, host: "alias" };
    expect(await facts(target)).toMatchObject({ name: "b", isRoot: true });
  });

  it("trusts on first use where that is chosen, says so, and refuses another key later", async () => {
    const target: SshTarget = { ...host.sshTarget(), hostKey: undefined, hostKeys: "accept-new" };
    used.push(target);
    const call = { script: "facts.sh", argv: [], environment: {}, timeoutSeconds: 20, onLine: client.say } as const;
    await callSsh(target, call);
    expect(client.said).toMatch(/trusting the host key of \S+ on first use: ssh-ed25519 SHA256:\S+ — from now on/);
    await closeConnections([target]);
    client.lines.length = 0;
    await callSsh(target, call);
    expect(client.lines).toEqual([]);
    await closeConnections([target]);
    await host.changeHostKey();
    const known = path.join(client.root, "home/known_hosts");
    await expect(facts(target)).rejects.toThrow(
      new RegExp(
        `its host key is another one than before: .* — it has ssh-ed25519 SHA256:.* — the old one is in ${known}, line 1`,
      ),
    );
    await expect(facts(host.sshTarget())).rejects.toThrow(
      /its host key is not the pinned one — got ssh-ed25519 SHA256:/,
    );
    host = await fleet.remove("b").then(async () => (await fleet.add(["b"]))[0] as TestHost);
  });

  it("says why a host can't be reached, and what to do", async () => {
    const wrongKey = path.join(client.root, "wrong");
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", wrongKey]);
    const base = host.sshTarget();
    await expect(facts({ ...base, identityFile: wrongKey })).rejects.toThrow(
      /lets nobody in with the keys that were offered — user root, .*wrong.* — fix: check user and identityFile/s,
    );
    await expect(facts({ ...base, host: "no-such-host.invalid" })).rejects.toThrow(
      /its name does not resolve — .*fix: check the name in ssh.hosts/,
    );
    await expect(facts({ ...base, port: 4 })).rejects.toThrow(
      /refuses the connection.*fix: start sshd there, or correct the port/,
    );
    await host.partition();
    await expect(facts(base)).rejects.toThrow(/does not answer.*fix: check that the machine runs/);
    await host.heal();
    client.write("ssh_config", "Nonsense yes\n");
    await expect(facts(base)).rejects.toThrow(/the SSH configuration of this machine can't be read.*bad configuration/);
  });

  it("says so when the scripts find no room, and goes on when there is some", async () => {
    const target = host.sshTarget();
    used.push(target);
    const apply = () => applyStep(client.request(target, {}), { onProgress: client.say });
    await host.fillDisk();
    await expect(apply()).rejects.toThrow(
      /scripts can't be put there — .*No space left.* — the disk is full — fix: free some/,
    );
    await host.freeDisk();
    await host.readOnlyDisk();
    await expect(apply()).rejects.toThrow(/scripts can't be put there — .* — the file system is read-only — fix/);
    expect(await facts(target)).toMatchObject({ name: "b" });
    await host.writableDisk();
    expect(await apply()).toMatchObject({ made: true });
    await sweepHost(target, "ssh-test");
  });

  it("waits for a machine that sets itself up, and says what it is doing", async () => {
    await host.exec(
      `rm -rf /run/cloud-init && mkdir /run/cloud-init && touch /run/cloud-init/enabled && echo '{"v1":{"stage":"modules-final"}}' >/run/cloud-init/status.json`,
    );
    const target = host.sshTarget();
    used.push(target);
    const looking = callSsh(target, {
      script: "facts.sh",
      argv: [],
      environment: {},
      timeoutSeconds: 60,
      onLine: client.say,
    });
    await vi.waitFor(
      () => expect(client.said).toMatch(/waiting for cloud-init, \d s of at most 600 s \(modules-final\)/),
      15_000,
    );
    await host.exec(`echo '{"v1":{"errors":["x failed"]}}' >/run/cloud-init/result.json`);
    expect((await looking).code).toBe(0);
    expect(client.said).toContain('cloud-init finished with errors: "x failed"');
    await host.exec("rm -r /run/cloud-init/result.json");
    await closeConnections([target]);
    client.set({ TANDEM_CLOUD_INIT_SECONDS: "1" });
    await expect(facts(target)).rejects.toThrow(
      /is not ready: cloud-init has not finished within 1 s \(modules-final\) — fix/,
    );
    await host.exec("rm -r /run/cloud-init");
  });
});
