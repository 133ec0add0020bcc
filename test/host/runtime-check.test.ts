import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { STAND_IN_VERSION, writeStandIn } from "../fakes/vllm/runtime";
import { type Check, TestHost } from "./host";

let host: TestHost;
let site: string;
let python: string;

beforeEach(async () => {
  host = new TestHost();
  const supplies = path.join(host.root, "supplies");
  mkdirSync(supplies);
  writeStandIn(supplies);
  const document = {
    kind: "archive",
    device: "cpu",
    vllmVersion: STAND_IN_VERSION,
    path: path.join(supplies, "vllm.tar"),
  };
  const answer = await host.run(["apply", "runtime"], { document, values: { TANDEM_REPAIR: "#r" } });
  expect(answer).toMatchObject({ code: 0 });
  const result = JSON.parse(answer.stdout) as { python: string; path: string };
  python = result.python;
  site = path.join(result.path, "unpacked/site-packages");
});
afterEach(() => host.close());

async function check(): Promise<Check> {
  const { stdout } = await host.run(["check"]);
  return JSON.parse(stdout) as Check;
}

describe("the check of a runtime", () => {
  it("starts Python only when something of the runtime was touched", async () => {
    // A Python that tells that it was started, in the place of the one whose times were kept.
    const times = path.join(host.stackDir, "steps/runtime/files/times");
    const lookedAt = path.join(host.stackDir, "steps/runtime/files/looked-at");
    const started = path.join(host.root, "started");
    const names = readFileSync(lookedAt, "utf8").split("\0");
    expect(names).toContain(path.join(site, "vllm/__init__.py"));
    renameSync(python, `${python}.real`);
    writeFileSync(python, `#!/bin/sh\ntouch '${started}'\nexec '${python}.real' "$@"\n`, { mode: 0o755 });
    const look = "xargs -0 -r stat -L -c '%n %i %s %.9Y %.9Z'";
    writeFileSync(times, execFileSync("sh", ["-c", look], { input: readFileSync(lookedAt) }));
    expect(await check()).toMatchObject({ holds: true });
    expect(existsSync(started)).toBe(false);
    appendFileSync(path.join(site, "vllm/__init__.py"), "\n");
    expect(await check()).toMatchObject({ holds: true });
    expect(existsSync(started)).toBe(true);
  });

  it("sees another version of vLLM", async () => {
    const metadata = path.join(site, `vllm-${STAND_IN_VERSION}.dist-info/METADATA`);
    const text = readFileSync(metadata, "utf8");
    writeFileSync(metadata, text.replace(`Version: ${STAND_IN_VERSION}`, "Version: 0.31.0"));
    // As no ordinary program would.
    utimesSync(metadata, 0, 0);
    expect(await check()).toMatchObject({ holds: false, reason: expect.stringContaining("0.31.0") as string });
  });

  it("sees that vLLM was removed", async () => {
    rmSync(path.join(site, "vllm"), { recursive: true });
    expect(await check()).toMatchObject({ holds: false, reason: expect.stringContaining("can't be found") as string });
  });

  it("sees that the environment does not lead to vLLM any more", async () => {
    const folder = path.join(path.dirname(python), "../lib");
    const version = readdirSync(folder).find((name) => name.startsWith("python3.")) ?? "";
    const link = path.join(folder, version, "site-packages/tandem.pth");
    writeFileSync(link, "");
    expect(await check()).toMatchObject({ holds: false, reason: expect.stringContaining("can't be found") as string });
  });
});
