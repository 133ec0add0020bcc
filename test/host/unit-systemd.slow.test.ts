import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { describeOnHosts, type Fleet, startHosts, type TestHost } from "../fixtures/hosts/hosts";
import { answerOf } from "./host";
import { pathsOf, StackOnHost, type Worker } from "./stack-on-host";
import { FAMILY, type Started, UNIT_STEP } from "./unit-step";

const SERVICE = {
  argv: ["/bin/sh", "-c", "echo it runs; exec sleep 600"],
  env: { PATH: "/usr/bin:/bin" },
  port: 0,
  stopSeconds: 1,
  backoffSeconds: [0.2],
};
const WITH_FAMILY = { ...SERVICE, argv: ["/bin/sh", "-c", `${FAMILY}; exec sleep 600`] };
const INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends";
const UNIT = "tandem-one-svc.service";

describeOnHosts("a unit under systemd", () => {
  let fleet: Fleet;
  let host: TestHost;
  beforeAll(async () => {
    fleet = await startHosts(["units"]);
    host = fleet.host("units");
  });
  afterAll(() => fleet?.close());

  it("is run without systemd where a user's services may not outlive the session, and says so", async () => {
    const stack = new StackOnHost(host, "guest", "one", { svc: UNIT_STEP });
    stack.putScripts();
    const answer = await stack.run(["apply", "svc"], { document: SERVICE });
    expect(answer).toMatchObject({ code: 0, stderr: expect.stringContaining("svc runs without systemd") as string });
    expect(await stack.check()).toMatchObject([{ step: "svc", holds: true }]);
    expect((await stack.run(["sweep"])).code).toBe(0);
  });

  describe.each<[Worker, string]>([
    ["root", "as root"],
    ["ops", "as a user with sudo"],
    ["guest", "as a user of the user's own"],
  ])("%s (%s)", (worker) => {
    const scope = worker === "guest" ? "--user" : "--system";
    let stack: StackOnHost;
    let before: string[];
    beforeAll(async () => {
      // Ubuntu's and Debian's server images have it: it is what lets a user keep services.
      if (worker === "guest") await host.exec(`apt-get update -qq; ${INSTALL} polkitd >/dev/null 2>&1`, 120);
      await host.ssh("true", worker === "guest" ? "guest" : "root");
      before = await pathsOf(host);
      stack = new StackOnHost(host, worker, "one", { svc: UNIT_STEP });
      stack.putScripts();
      expect((await stack.run(["apply", "lease"], { document: { exclusive: true } })).code).toBe(0);
    });
    beforeEach(() => stack.putScripts());

    const systemctl = (verb: string) => stack.as(`${worker === "ops" ? "sudo -n " : ""}systemctl ${scope} ${verb}`);
    const asRoot = (command: string) => host.exec(command);
    const status = async () =>
      JSON.parse(await asRoot(`cat ${stack.stackDir}/units/svc/status.json`)) as Record<string, unknown>;
    const processes = () =>
      asRoot(`grep -lzxF TANDEM_STACK_DIR=${stack.stackDir} /proc/[0-9]*/environ 2>/dev/null || :`);
    const file = () =>
      worker === "guest" ? `/home/guest/.config/systemd/user/${UNIT}` : `/etc/systemd/system/${UNIT}`;

    async function started(document = SERVICE): Promise<Started> {
      const answer = await stack.run(["apply", "svc"], { document, values: { TANDEM_REPAIR: "#1" } });
      expect(answer).toMatchObject({ code: 0 });
      const now = JSON.parse(answer.stdout) as Started;
      // Nothing here may ever signal process 0, which is the test's own group.
      expect(Math.min(now.pid, now.supervisorPid, now.keeperPid)).toBeGreaterThan(1);
      return now;
    }

    async function until(what: string, isSo: () => Promise<boolean>, limitSeconds = 20): Promise<void> {
      const deadline = Date.now() + limitSeconds * 1000;
      while (!(await isSo())) {
        if (Date.now() > deadline) throw new Error(`waited ${limitSeconds} s for: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }

    it("runs with its whole tree in a control group of its own, with raised limits", async () => {
      const { pid, state } = await started(WITH_FAMILY);
      expect(state).toBe("running");
      expect(await systemctl(`is-active ${UNIT}`)).toBe("active");
      expect(await systemctl(`is-enabled ${UNIT}`)).toBe("enabled");
      const group = await asRoot(`grep -h ${UNIT} /proc/${pid}/cgroup`);
      expect(group).toContain(UNIT);
      await until("the family is there", async () => (await processes()).split("\n").length >= 7);
      const groups = await asRoot(
        `grep -lzxF TANDEM_STACK_DIR=${stack.stackDir} /proc/[0-9]*/environ | sed s/environ/cgroup/ | xargs cat 2>/dev/null | grep -F name=systemd || :`,
      );
      for (const line of groups.split("\n")) expect(line).toContain(UNIT);
      const limits = await asRoot(`cat /proc/${pid}/limits`);
      const [soft, hard] = /Max open files\s+(\d+)\s+(\d+)/.exec(limits)?.slice(1) ?? [];
      expect(soft).toBe(hard);
      expect(await stack.check()).toMatchObject([
        { step: "lease", holds: true },
        { step: "svc", holds: true },
      ]);
    });

    it("is started again after a crash of the service, and of its supervisor with all that was below", async () => {
      const { pid, supervisorPid } = await started(WITH_FAMILY);
      await asRoot(`kill -KILL ${pid}`);
      await until("the service runs again", async () => {
        const now = await status();
        return now["state"] === "running" && now["pid"] !== pid && now["supervisorPid"] === supervisorPid;
      });
      const second = await status();
      expect(Number(second["keeperPid"])).toBeGreaterThan(1);
      await asRoot(`kill -KILL ${supervisorPid} ${String(second["keeperPid"])}`);
      await until(
        "systemd started it again",
        async () => {
          const now = await status();
          return now["state"] === "running" && now["supervisorPid"] !== supervisorPid;
        },
        40,
      );
      expect(await processes()).not.toContain(`/proc/${String(second["pid"])}/`);
    });

    it.each<["reboot" | "powerCycle", string]>([
      ["reboot", "a reboot"],
      ["powerCycle", "a power loss"],
    ])("comes up again after %s (%s), nobody being logged in", async (fault) => {
      await started();
      const { unitId } = await status();
      await host[fault]();
      await until("it runs", async () => {
        const now = await status();
        return now["state"] === "running" && now["unitId"] !== unitId;
      });
      expect(await stack.check()).toMatchObject([
        { step: "lease", holds: true },
        { step: "svc", holds: true },
      ]);
    });

    it("that was stopped, disabled, changed or removed is drift with a reason, and repaired by apply", async () => {
      const reasonAfter = async (command: string) => {
        await started();
        if (worker === "guest") await stack.as(command.replaceAll("systemctl", "systemctl --user"));
        else await asRoot(command);
        const reason = (await stack.check()).find(({ step }) => step === "svc")?.reason;
        await started();
        expect((await stack.check()).find(({ step }) => step === "svc")).toMatchObject({ holds: true });
        return reason;
      };
      expect(await reasonAfter(`systemctl stop ${UNIT}`)).toBe("the unit is stopped");
      expect(await reasonAfter(`systemctl disable -q ${UNIT}`)).toBe(
        "it does not start at boot any more (systemd says disabled)",
      );
      expect(await reasonAfter(`echo '# by hand' >>${file()}`)).toBe(
        `restart its systemd unit file ${file()} was changed`,
      );
      expect(await reasonAfter(`rm ${file()}`)).toBe(`its systemd unit file ${file()} was removed`);
      const dropIn = `mkdir -p ${file()}.d && printf '[Service]\\nNice=5\\n' >${file()}.d/nice.conf && systemctl daemon-reload`;
      expect(await reasonAfter(dropIn)).toBe(`restart systemd changes it by ${file()}.d/nice.conf`);
    });

    it("leaves no process, file or setting when it is taken back", async () => {
      await started(WITH_FAMILY);
      expect((await stack.run(["undo", "svc"])).code).toBe(0);
      expect(await processes()).toBe("");
      expect(await systemctl(`list-unit-files --no-legend 'tandem-*'`)).toBe("");
      expect(await asRoot("ls /var/lib/systemd/linger 2>/dev/null || :")).toBe("");
    });

    it("leaves the host as it was when the stack goes, also when the client was killed in the middle", async () => {
      const client = stack.start(["apply", "svc"], { document: { ...SERVICE, wait: 2 } });
      const answer = answerOf(client);
      const step = `${stack.stackDir}/steps/svc`;
      await until("the work runs", async () => (await asRoot(`ls ${step}/runs/*/pid 2>/dev/null || :`)) !== "");
      client.kill("SIGKILL");
      await answer;
      await until("the work went on", async () => (await asRoot(`cat ${step}/state`)) === "applied");
      expect(await systemctl(`is-active ${UNIT}`)).toBe("active");
      const swept = await stack.run(["sweep"]);
      expect(swept).toMatchObject({
        code: 0,
        stderr: expect.stringContaining("nothing of the stack one is left") as string,
      });
      expect(swept.stderr).not.toContain("changed by others");
      expect(await processes()).toBe("");
      expect(await pathsOf(host)).toEqual(before);
    });
  });
});
