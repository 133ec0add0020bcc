import { afterAll, beforeAll, expect, it } from "vitest";
import { describeOnHosts, type Fleet, startHosts, type TestHost } from "../fixtures/hosts/hosts";
import { StackOnHost } from "./stack-on-host";

/** A step that prepares the adapters' memory as training.sh does, and does nothing else. */
const STEP = `
. "$TANDEM_SCRIPTS_DIR/common.sh"
. "$TANDEM_SCRIPTS_DIR/unit.sh"
. "$TANDEM_SCRIPTS_DIR/training-memory.sh"
place="$(cat "$TANDEM_STACK_DIR/adapters" 2>/dev/null || :)"
case "$1" in
  check) drift="$(adapters_drift "$place")"; [ -z "$drift" ] || does_not_hold "$drift" ;;
  apply)
    read_document
    place="$(adapters_folder "$doc_mib")"
    adapters_prepare "$place" "$doc_mib"
    printf '%s' "$place" >"$TANDEM_STACK_DIR/adapters"
    printf '{"place":"%s"}\\n' "$place"
    ;;
  undo) adapters_remove "$place" ;;
esac
exit 0
`;

describeOnHosts("the memory file system of adapters", () => {
  let fleet: Fleet;
  let host: TestHost;
  beforeAll(async () => {
    fleet = await startHosts(["memory"]);
    host = fleet.host("memory");
  });
  afterAll(() => fleet?.close());

  const stackOf = async (user: "root" | "guest") => {
    const stack = new StackOnHost(host, user, "one", { memory: STEP });
    stack.putScripts();
    expect((await stack.run(["apply", "lease"], { document: { exclusive: false } })).code).toBe(0);
    return stack;
  };
  const applied = async (stack: StackOnHost, mib: number) => {
    const answer = await stack.run(["apply", "memory"], { document: { mib } });
    expect(answer, answer.stderr).toMatchObject({ code: 0 });
    return (JSON.parse(answer.stdout) as { place: string }).place;
  };

  it("is the stack's own with a limit as root under systemd, comes back after a restart of the host, and goes with the stack", async () => {
    const stack = await stackOf("root");
    const place = await applied(stack, 2);
    expect(place).toMatch(/^\/run\/tandem\/adapters\/[0-9a-f]{8}$/);
    const size = () => host.exec(`findmnt -n -b -o FSTYPE,SIZE ${place}`);
    expect((await size()).trim().split(/\s+/)).toEqual(["tmpfs", String(2 << 20)]);
    expect(await host.exec(`stat -c %a ${place}`)).toContain("700");
    expect(await host.exec(`head -c 3M /dev/zero >${place}/x || echo full`)).toContain("full");
    // Another limit is taken over without losing what is there.
    expect(await applied(stack, 4)).toBe(place);
    expect(await size()).toContain(String(4 << 20));
    expect(await host.exec(`ls ${place}`)).toContain("x");
    expect(await stack.check()).toMatchObject([{ step: "lease" }, { step: "memory", holds: true }]);

    await host.exec(`umount ${place}`);
    const lost = (await stack.check()).find(({ step }) => step === "memory");
    expect(lost).toMatchObject({ holds: false, reason: expect.stringContaining("not mounted") as string });
    await host.reboot();
    expect(await size()).toContain("tmpfs");

    const swept = await stack.run(["sweep"]);
    expect(swept, swept.stderr).toMatchObject({ code: 0 });
    expect(await host.exec(`findmnt -t tmpfs | grep -c tandem/adapters || :`)).toContain("0");
    expect(await host.exec("ls -d /run/tandem /etc/systemd/system/run-tandem* 2>/dev/null || echo gone")).toBe("gone");
  });

  it("is a folder of /dev/shm for a user without such rights", async () => {
    const stack = await stackOf("guest");
    const place = await applied(stack, 2);
    expect(place).toMatch(/^\/dev\/shm\/tandem-one-[0-9a-f]{8}$/);
    expect((await stack.run(["sweep"])).code).toBe(0);
    expect(await host.exec(`ls -d ${place} 2>/dev/null || echo gone`)).toBe("gone");
  });
});
