import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { describeOnHosts, type Fleet, startHosts, type TestHost } from "../fixtures/hosts/hosts";
import { answerOf } from "./host";
import { pathsOf, StackOnHost } from "./stack-on-host";

/** A step that installs a package by the real apt, holds it and replaces a file of the distribution's; no undo of its own. */
const PACKAGE_STEP = `
. "$TANDEM_SCRIPTS_DIR/common.sh"
. "$TANDEM_SCRIPTS_DIR/journal.sh"
. "$TANDEM_SCRIPTS_DIR/packages.sh"
if [ "$1" = apply ]; then
  apt_install jq
  journal_add hold jq
  apt-mark hold jq >/dev/null
  journal_add file /etc/issue
  echo ours >/etc/issue
  say "all is done"
  sleep "\${TANDEM_WAIT:-0}"
  echo '{}'
fi
exit 0
`;

/** A step whose dpkg is killed while it unpacks a package. */
const KILLED_STEP = `
. "$TANDEM_SCRIPTS_DIR/common.sh"
. "$TANDEM_SCRIPTS_DIR/journal.sh"
if [ "$1" = apply ]; then
  folder="$(mktemp -d)"
  mkdir -m 755 "$folder/DEBIAN"
  cat >"$folder/DEBIAN/control" <<CONTROL
Package: half
Version: 1
Architecture: all
Maintainer: half <half@example.com>
Description: half
CONTROL
  cat >"$folder/DEBIAN/preinst" <<PREINST
#!/bin/sh
touch /run/unpacks
exec sleep 300
PREINST
  chmod 755 "$folder/DEBIAN/preinst"
  dpkg-deb --build "$folder" /run/half.deb >&2
  rm -rf "$folder"
  journal_add package half
  dpkg --install /run/half.deb >&2 &
  until [ -e /run/unpacks ]; do sleep 0.1; done
  kill -KILL $!
  rm /run/half.deb /run/unpacks
  die 25 "dpkg was killed"
fi
`;

/** Stands for nvidia-smi with one GPU on which one process computes; its form was recorded on H100 (fixtures/nvidia-smi-2xh100). */
const nvidiaSmi = (pid: string) => `#!/bin/sh
case "$*" in
  *query-gpu=index,uuid*) echo '0, GPU-1' ;;
  *query-compute-apps*) echo 'GPU-1, ${pid}, 2048, /usr/bin/train' ;;
esac
`;

const EXCLUSIVE = { document: { exclusive: true, cache: "remove" } };

describeOnHosts("a lease on a real host", () => {
  let fleet: Fleet;
  let host: TestHost;
  let one: StackOnHost;
  let two: StackOnHost;
  let before: string[];
  beforeAll(async () => {
    fleet = await startHosts(["lease"]);
    host = fleet.host("lease");
    // The lists of packages stay when a package goes: they are the distribution's cache.
    await host.exec("apt-get update -qq", 120);
    before = await pathsOf(host);
    one = new StackOnHost(host, "root", "one", { change: PACKAGE_STEP, killed: KILLED_STEP });
    two = new StackOnHost(host, "root", "two", { change: PACKAGE_STEP });
    one.putScripts();
  });
  afterEach(async () => {
    one.putScripts();
    await one.run(["sweep"]);
    one.putScripts();
    await two.run(["sweep"]);
    one.putScripts();
  });
  afterAll(() => fleet?.close());

  it("goes to exactly one of two stacks that come at once, and names it to the other", async () => {
    const answers = await Promise.all([one.run(["apply", "lease"], EXCLUSIVE), two.run(["apply", "lease"], EXCLUSIVE)]);
    expect(answers.map(({ code }) => code).sort()).toEqual([0, 30]);
    const refused = answers.find(({ code }) => code === 30);
    expect(refused?.stderr).toMatch(
      /^this host is taken by the stack (one|two), since \S+Z, by \S+@\S+ — fix: destroy/m,
    );
  });

  it("of a user of the host's is seen by root", async () => {
    const theirs = new StackOnHost(host, "guest", "theirs");
    theirs.putScripts();
    expect((await theirs.run(["apply", "lease"], EXCLUSIVE)).code).toBe(0);
    const refused = await one.run(["apply", "lease"], EXCLUSIVE);
    expect(refused).toMatchObject({ code: 30, stderr: expect.stringContaining("taken by the stack theirs") as string });
    expect((await theirs.run(["sweep"])).code).toBe(0);
    expect((await one.run(["apply", "lease"], EXCLUSIVE)).code).toBe(0);
  });

  it("is refused where somebody else's program computes on the GPUs, and names it; sharing goes on", async () => {
    const pid = (await host.exec("su guest -c 'sleep 300 >/dev/null 2>&1 & echo $!'")).trim();
    await host.exec(`cat >/usr/local/bin/nvidia-smi <<'E'\n${nvidiaSmi(pid)}E\nchmod 755 /usr/local/bin/nvidia-smi`);
    try {
      const refused = await one.run(["apply", "lease"], EXCLUSIVE);
      expect(refused.code).toBe(30);
      expect(refused.stderr).toContain(`process ${pid} of guest (/usr/bin/train) holds 2048 MiB of GPU 0`);
      const elsewhere = await one.run(["apply", "lease"], { document: { exclusive: true, gpus: [1] } });
      expect(elsewhere.code).toBe(0);
      expect((await two.run(["apply", "lease"], { document: { exclusive: false } })).code).toBe(30);
    } finally {
      await host.exec(`kill ${pid}; rm /usr/local/bin/nvidia-smi`);
    }
  });

  it.each([
    ["as it was applied", false],
    ["after a power loss in the middle of its apply", true],
  ])(
    "gives the host back as it was, with packages, holds and files: %s",
    async (_what, powerLoss) => {
      expect((await one.run(["apply", "lease"], EXCLUSIVE)).code).toBe(0);
      const values = { TANDEM_WAIT: powerLoss ? "60" : "0" };
      const client = one.start(["apply", "change"], { values });
      if (powerLoss) {
        await new Promise<void>((resolve) =>
          client.stderr.setEncoding("utf8").on("data", (text: string) => text.includes("all is done") && resolve()),
        );
        await host.powerCycle();
        client.kill("SIGKILL");
      } else {
        expect((await answerOf(client)).code).toBe(0);
      }
      expect(await host.exec("jq --version; apt-mark showhold; cat /etc/issue")).toMatch(/^jq-.*\njq\nours$/);
      await host.exec("useradd -M visitor");
      const swept = await one.run(["sweep"]);
      expect(swept.stderr).toContain("changed by others meanwhile: user visitor (new)");
      expect(swept.stderr).not.toContain("not taken back");
      expect(swept.code).toBe(0);
      await host.exec(
        "userdel visitor; rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-",
      );
      const changed =
        /^\/(etc\/(passwd|shadow|group|gshadow|subuid|subgid)-|etc\/ld\.so\.cache|var\/lib\/(apt|dpkg)\/)/;
      const rest = (paths: string[]) => paths.filter((path) => !changed.test(path));
      expect(rest(await pathsOf(host))).toEqual(rest(before));
    },
    200_000,
  );

  it("gives back a host whose dpkg was killed while it unpacked a package", async () => {
    expect((await one.run(["apply", "lease"], EXCLUSIVE)).code).toBe(0);
    expect((await one.run(["apply", "killed"])).code).toBe(25);
    expect(await host.exec("dpkg-query -W -f '${Status}' half")).toBe("install reinstreq half-installed");
    const swept = await one.run(["sweep"]);
    expect(swept, swept.stderr).toMatchObject({ code: 0 });
    expect((await host.tryExec("dpkg-query -W half")).status).toBe(1);
    expect(await host.exec("dpkg --audit; apt-get check")).not.toContain("half");
  });
});
