import { describe, expect, it } from "vitest";
import { parseSettings } from "../../plan/settings";
import { sshHosts } from "../../plan/ssh-hosts";

function hostsOf(ssh: Record<string, unknown>) {
  const { settings, problems } = parseSettings({ target: "ssh", ssh });
  return settings === undefined ? problems.map(({ setting, what }) => `${setting}: ${what}`) : sshHosts(settings);
}

describe("the machines of target ssh", () => {
  it("are read from the short form, with user and port", () => {
    expect(hostsOf({ hosts: ["root@gpu1.example.com:2222", "gpu2"] })).toMatchObject([
      { name: "gpu1-example-com", host: "gpu1.example.com", user: "root", port: 2222 },
      { name: "gpu2", host: "gpu2" },
    ]);
  });

  it("may be one text instead of a list, and an address makes a name", () => {
    expect(hostsOf({ hosts: "10.0.0.2" })).toMatchObject([{ name: "10-0-0-2", host: "10.0.0.2" }]);
    expect(hostsOf({ hosts: ["[2001:db8::1]:22"] })).toMatchObject([{ host: "2001:db8::1", port: 22 }]);
  });

  it("take from the block what they do not say themselves", () => {
    const hosts = [{ name: "a", host: "10.0.0.2", port: 2200 }, "ops@10.0.0.3"];
    expect(hostsOf({ hosts, user: "ubuntu", port: 22, jumpHost: "bastion" })).toMatchObject([
      { name: "a", user: "ubuntu", port: 2200, jumpHost: "bastion" },
      { name: "10-0-0-3", user: "ops", port: 22, jumpHost: "bastion" },
    ]);
  });

  it("are refused when two bear one name, which names their resources", () => {
    expect(hostsOf({ hosts: ["gpu.1", "gpu-1"] })).toEqual([expect.stringContaining("two machines are called gpu-1")]);
  });

  it.each([[[]], [["-oProxyCommand=id"]], [["a b"]], [[{ host: "-oProxyCommand=id" }]], [[{ name: "x" }]]])(
    "are refused when they are %j",
    (hosts) => expect(hostsOf({ hosts })[0]).toContain("ssh.hosts"),
  );

  it("are needed by the target", () => {
    expect(hostsOf({})).toEqual([expect.stringContaining("is missing")]);
  });
});
