import { describe, expect, it } from "vitest";
import { examineHost, judgeClock, judgeLinks } from "../../bootstrap/runner/doctor";
import { parseSettings } from "../../plan/settings";
import { freePort } from "../fixtures/free-port";

describe("the clock of a host", () => {
  it("is right when it was read between call and answer, however long that took", () => {
    expect(judgeClock(1000, 990.4, 1010)).toMatchObject({ verdict: "ok" });
    expect(judgeClock(1000, 1000.9, 1001)).toMatchObject({ verdict: "ok" });
  });

  it("is told of when it is off by more than a minute, in either direction", () => {
    expect(judgeClock(1000 + 3600, 1000, 1001)).toMatchObject({
      verdict: "warn",
      text: expect.stringContaining("60 min ahead of") as string,
      cure: expect.stringContaining("timedatectl") as string,
    });
    expect(judgeClock(1000 - 90, 1000, 1001)).toMatchObject({
      verdict: "warn",
      text: expect.stringContaining("90 s behind") as string,
    });
    expect(judgeClock(1000 + 50, 1000, 1001)).toMatchObject({ verdict: "ok" });
  });
});

describe("links that a plan crosses", () => {
  const pairs = "0-1:PHB 0-2:NV4 0-3:SYS 1-2:SYS 1-3:NV4 2-3:PIX";

  it("are told with the devices that would do better", () => {
    expect(judgeLinks({ gpuIndices: [0, 1, 2, 3], tensorParallel: 2 }, pairs)).toEqual([
      {
        check: "links",
        verdict: "warn",
        text: "tensor parallel 2 crosses links slower than NVLink: GPUs 0, 1 (the CPU's PCIe bridge); GPUs 2, 3 (a PCIe switch)",
        cure: "use GPUs that NVLink joins: --devices 0,2,1,3",
      },
    ]);
  });

  it("are well where nothing is split over them", () => {
    expect(judgeLinks({ gpuIndices: [0, 1, 2, 3], tensorParallel: 1 }, pairs)).toMatchObject([{ verdict: "ok" }]);
    expect(judgeLinks({ gpuIndices: [0], tensorParallel: 1 }, "")).toEqual([]);
  });
});

describe("a host that can't be reached", () => {
  it("is one verdict, with nothing guessed beside it", async () => {
    const { settings } = parseSettings({});
    const port = await freePort();
    const target = {
      kind: "ssh",
      name: "gone",
      host: "127.0.0.1",
      port,
      hostKeys: "accept-new",
      sudo: "auto",
    } as const;
    const diagnosis = await examineHost(target, settings!, "unit-test");
    expect(diagnosis).toMatchObject({ host: "gone", status: "fail", verdicts: [{ check: "reach", verdict: "fail" }] });
    expect(diagnosis.verdicts).toHaveLength(1);
    expect(diagnosis.verdicts[0]?.text).toMatch(/^gone .*refuse/);
    // What the client's own ssh says, not what a host with that message would have to do.
    expect(diagnosis.verdicts[0]?.cure).toBe("start sshd there, or correct the port");
  });
});
