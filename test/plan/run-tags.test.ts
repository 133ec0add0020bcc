import { describe, expect, it } from "vitest";
import { judgeExpiry, readRunTags, type RunMark, runTags, tagList } from "../../plan/run-tags";

const at = (text: string) => new Date(`2026-11-25T${text}Z`);
const mark: RunMark = {
  runId: "ci-1f2e3d",
  stack: "ci-1f2e3d",
  owner: "ada@laptop",
  createdAt: at("10:00:00"),
  expiresAt: at("12:00:00"),
};

describe("the tags of a run", () => {
  it("say who made it, when, and until when, in whole seconds of UTC", () => {
    expect(runTags({ ...mark, createdAt: at("10:00:00.987") })).toEqual({
      "tandem:created-by": "tandem",
      "tandem:run-id": "ci-1f2e3d",
      "tandem:stack": "ci-1f2e3d",
      "tandem:owner": "ada@laptop",
      "tandem:created-at": "2026-11-25T10:00:00Z",
      "tandem:expires-at": "2026-11-25T12:00:00Z",
    });
    expect(tagList({ a: "b" })).toEqual([{ Key: "a", Value: "b" }]);
  });

  it("are read back as they were written", () => {
    expect(readRunTags({ ...runTags(mark), Name: "gpu" })).toEqual({ kind: "ours", mark });
    const { expiresAt: _expiresAt, ...endless } = mark;
    expect(readRunTags(runTags(endless))).toEqual({ kind: "ours", mark: endless });
  });

  it("hold an owner that no tag could hold as it is", () => {
    const tags = runTags({ ...mark, owner: `a<b>&"c"@${"x".repeat(300)}` });
    expect(tags["tandem:owner"]).toMatch(/^a_b___c_@x+$/);
    expect(tags["tandem:owner"]).toHaveLength(256);
  });

  it("show no line and no colour that somebody wrote into an owner", () => {
    const reading = readRunTags({ ...runTags(mark), "tandem:owner": "ada\n::error::\u001b[31m" });
    expect(reading).toMatchObject({ mark: { owner: "ada_::error::__31m" } });
  });

  it("are refused for a run that ends before it starts, and for an id that is none", () => {
    expect(() => runTags({ ...mark, expiresAt: mark.createdAt })).toThrow(
      /allowed: later than the start, 2026-11-25T10:00:00Z/,
    );
    expect(() => runTags({ ...mark, runId: "A b" })).toThrow(/got A b/);
  });

  it("make nothing ours that others made", () => {
    expect(readRunTags({})).toEqual({ kind: "foreign" });
    expect(readRunTags({ "tandem:run-id": "x", "tandem:expires-at": "2020-01-01T00:00:00Z" })).toEqual({
      kind: "foreign",
    });
    expect(readRunTags({ ...runTags(mark), "tandem:created-by": "tandem-bike-shop" })).toEqual({ kind: "foreign" });
  });

  it.each([
    ["tandem:run-id", "", /tag tandem:run-id is/],
    ["tandem:stack", undefined, /no tag tandem:stack/],
    ["tandem:created-at", "yesterday", /tag tandem:created-at is yesterday/],
    ["tandem:expires-at", "2026-13-45T00:00:00Z", /tag tandem:expires-at/],
    ["tandem:expires-at", "2026-02-30T00:00:00Z", /tag tandem:expires-at/],
    ["tandem:expires-at", "2026-11-25T09:00:00Z", /tag tandem:expires-at/],
    ["tandem:expires-at", "2026-11-25T12:00:00+02:00", /tag tandem:expires-at/],
  ])("are damaged with %s %s: nothing may be deleted by them", (name, value, reason) => {
    const tags = Object.fromEntries(
      Object.entries({ ...runTags(mark), [name]: value }).filter(([, v]) => v !== undefined),
    );
    expect(readRunTags(tags as Record<string, string>)).toEqual({
      kind: "damaged",
      reason: expect.stringMatching(reason) as unknown,
    });
  });
});

describe("a run is over", () => {
  it("two minutes after its end, so that clocks a little apart judge alike", () => {
    expect(judgeExpiry(mark, at("11:00:00"))).toEqual({ kind: "live", secondsLeft: 3720 });
    expect(judgeExpiry(mark, at("12:01:59"))).toEqual({ kind: "live", secondsLeft: 1 });
    expect(judgeExpiry(mark, at("12:02:00"))).toEqual({ kind: "expired", secondsAgo: 0 });
    expect(judgeExpiry(mark, at("13:02:00"))).toEqual({ kind: "expired", secondsAgo: 3600 });
  });

  it("never, without an end", () => {
    const { expiresAt: _expiresAt, ...endless } = mark;
    expect(judgeExpiry(endless, at("23:00:00"))).toEqual({ kind: "never" });
  });

  it("after its length from the launch on, when the clock of the client that wrote the tags was a day ahead", () => {
    const ahead = {
      ...mark,
      createdAt: new Date("2026-11-26T10:00:00Z"),
      expiresAt: new Date("2026-11-26T12:00:00Z"),
    };
    const launchedAt = at("10:00:30");
    expect(judgeExpiry(ahead, at("11:59:00"), launchedAt).kind).toBe("live");
    expect(judgeExpiry(ahead, at("12:03:00"), launchedAt).kind).toBe("expired");
  });

  it("at its stated end also when capacity was waited for, or the writer's clock was behind", () => {
    expect(judgeExpiry(mark, at("11:59:00"), at("11:30:00")).kind).toBe("live");
    expect(judgeExpiry(mark, at("12:03:00"), at("11:30:00")).kind).toBe("expired");
  });
});
