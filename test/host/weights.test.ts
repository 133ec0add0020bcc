import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Answer, TestHost } from "./host";

/** Directory and archive need the standard library only, so any Python will do; the hub is in weights.slow.test.ts. */
const PYTHON = execFileSync("python3", ["-c", "import sys; print(sys.executable)"], { encoding: "utf8" }).trim();

interface Weights {
  readonly path: string;
  readonly bytes: number;
  readonly digest: string;
  readonly source: string;
}

let host: TestHost;
let model: string;
beforeEach(() => {
  host = new TestHost();
  model = path.join(host.root, "model");
  mkdirSync(model);
  writeFileSync(path.join(model, "config.json"), "{}");
  writeFileSync(path.join(model, "tokenizer.json"), "{}");
  writeFileSync(path.join(model, "model.safetensors"), Buffer.alloc(1_000_000, "weights "));
});
afterEach(() => host.close());

const weightsFile = () => path.join(model, "model.safetensors");

function apply(source: string, location: string): Promise<Answer> {
  const document = { source, model: location, revision: "main", python: PYTHON, fallbackPackage: false };
  return host.run(["apply", "weights"], { document, values: { TANDEM_REPAIR: "#1" } });
}

async function applied(source: string, location: string): Promise<Weights> {
  const answer = await apply(source, location);
  expect(answer).toMatchObject({ code: 0 });
  return JSON.parse(answer.stdout) as Weights;
}

/** Writes one byte into the middle of a file and puts its times back, as no ordinary program would. */
function damage(file: string): void {
  const { atime, mtime } = statSync(file);
  const content = readFileSync(file);
  content[123_456] = content[123_456] === 0 ? 1 : 0;
  writeFileSync(file, content);
  utimesSync(file, atime, mtime);
}

describe("weights from a directory", () => {
  it("are used where they lie, and nothing is written there", async () => {
    const before = readdirSync(model);
    const result = await applied("directory", model);
    expect(result).toMatchObject({ path: model, bytes: 1_000_004, source: "directory" });
    expect(readdirSync(model)).toEqual(before);
    expect(await applied("directory", model)).toEqual(result);
    expect(await host.check()).toEqual([{ step: "weights", holds: true, token: "#1" }]);
  });

  it("that are damaged are found, even when their times were put back", async () => {
    await applied("directory", model);
    damage(weightsFile());
    expect(await host.check()).toEqual([
      { step: "weights", holds: false, reason: "model.safetensors is damaged", token: "#1" },
    ]);
  });

  it("that were only touched still hold", async () => {
    await applied("directory", model);
    utimesSync(weightsFile(), new Date(), new Date());
    expect(await host.check()).toMatchObject([{ holds: true }]);
  });

  it("that lack a file do not hold, all reasons at once", async () => {
    await applied("directory", model);
    rmSync(weightsFile());
    writeFileSync(path.join(model, "config.json"), "{} ");
    expect(await host.check()).toMatchObject([
      { holds: false, reason: "config.json has 3 bytes, not 2; model.safetensors is missing" },
    ]);
  });

  it("have another digest when they are other weights", async () => {
    const first = await applied("directory", model);
    damage(weightsFile());
    expect((await applied("directory", model)).digest).not.toBe(first.digest);
    expect(await host.check()).toMatchObject([{ holds: true }]);
  });

  it("are refused when they are no model; all that is missing is named", async () => {
    rmSync(weightsFile());
    rmSync(path.join(model, "tokenizer.json"));
    expect(await apply("directory", model)).toMatchObject({
      code: 29,
      stderr: `model — ${model} is not a model directory: it lacks weights (*.safetensors or *.bin), a tokenizer (tokenizer.json or tokenizer.model)\n`,
    });
    expect(await apply("directory", "/nonexistent")).toMatchObject({
      code: 29,
      stderr: "model — there is no directory /nonexistent\n",
    });
  });
});

describe("weights from an archive", () => {
  const archive = (name: string) => path.join(host.root, name);

  it.each([
    ["model.tar", ["-cf"]],
    ["model.tar.gz", ["-czf"]],
    ["model.tar.xz", ["-cJf"]],
    ["model.tar.zst", ["--zstd", "-cf"]],
  ])("%s are unpacked into the cache, once", async (name, how) => {
    execFileSync("tar", [...how, archive(name), "-C", host.root, "model"]);
    const result = await applied("archive", archive(name));
    expect(result).toMatchObject({ bytes: 1_000_004, source: "archive" });
    expect(readFileSync(path.join(result.path, "model.safetensors"))).toEqual(readFileSync(weightsFile()));
    const again = await apply("archive", archive(name));
    expect(JSON.parse(again.stdout)).toEqual(result);
    expect(again.stderr).not.toContain("unpacking");
  });

  it("in a zip are unpacked too", async () => {
    execFileSync("python3", ["-m", "zipfile", "-c", archive("model.zip"), model]);
    expect(await applied("archive", archive("model.zip"))).toMatchObject({ bytes: 1_000_004 });
  });

  it("that were damaged after unpacking are unpacked again", async () => {
    execFileSync("tar", ["-cf", archive("model.tar"), "-C", model, "."]);
    const result = await applied("archive", archive("model.tar"));
    damage(path.join(result.path, "model.safetensors"));
    expect(await host.check()).toMatchObject([{ holds: false, reason: "model.safetensors is damaged" }]);
    const again = await apply("archive", archive("model.tar"));
    expect(again.stderr).toContain("damaged, unpacking it again");
    expect(JSON.parse(again.stdout)).toEqual(result);
    expect(await host.check()).toMatchObject([{ holds: true }]);
  });

  it.each([
    ["a path that climbs out", "tarfile.TarInfo('../escaped')", "its member ../escaped points outside"],
    ["an absolute path", "tarfile.TarInfo('/tmp/escaped')", "its member /tmp/escaped points outside"],
    ["a link", "link('evil', '/etc')", "evil is a link"],
    ["a device", "device('null')", "null is neither a file nor a folder"],
  ])("with %s are refused", async (_what, member, message) => {
    const program = `
import tarfile
def link(name, to):
    info = tarfile.TarInfo(name); info.type = tarfile.SYMTYPE; info.linkname = to; return info
def device(name):
    info = tarfile.TarInfo(name); info.type = tarfile.CHRTYPE; return info
with tarfile.open(${JSON.stringify(archive("evil.tar"))}, "w") as packed: packed.addfile(${member})`;
    execFileSync("python3", ["-c", program]);
    const answer = await apply("archive", archive("evil.tar"));
    expect(answer).toMatchObject({ code: 29, stderr: expect.stringContaining(message) as string });
    expect(existsSync(path.join(host.root, "escaped"))).toBe(false);
    const left = readdirSync(path.join(host.root, "cache/models")).filter((name) => !name.endsWith(".lock"));
    expect(left).toEqual([]);
  });

  it("that are cut off or no archive are refused", async () => {
    writeFileSync(archive("text.tar"), "this is no archive");
    expect(await apply("archive", archive("text.tar"))).toMatchObject({
      code: 29,
      stderr: expect.stringContaining("can't be unpacked") as string,
    });
  });
});
