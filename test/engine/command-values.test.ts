import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import * as rpc from "@pulumi/pulumi/runtime/rpc.js";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { collectAssets } from "../../bootstrap/engine/command/assets";
import { diffInputs } from "../../bootstrap/engine/command/diff";
import { checkInputs, toInputs } from "../../bootstrap/engine/command/inputs";
import { quoteLikeGo } from "../../bootstrap/engine/command/quote";
import * as values from "../../bootstrap/engine/command/values";

const secret = (value: values.Value) => ({ [values.SIGNATURE_KEY]: values.SECRET_SIGNATURE, value });

test("the marks of special values are the SDK's", () => {
  expect([values.SIGNATURE_KEY, values.SECRET_SIGNATURE, values.UNKNOWN]).toEqual([
    rpc.specialSigKey,
    rpc.specialSecretSig,
    rpc.unknownValue,
  ]);
  expect([values.ASSET_SIGNATURE, values.ARCHIVE_SIGNATURE]).toEqual([rpc.specialAssetSig, rpc.specialArchiveSig]);
});

describe("the difference between state and inputs", () => {
  const paths = (state: values.Properties, news: values.Properties, ignored?: string[]) =>
    diffInputs(state, news, ignored).map(({ path, kind, replaces }) => `${kind}${replaces ? "-replace" : ""} ${path}`);

  test("goes as deep as objects and lists do", () => {
    const state = { environment: { A: "1", B: "2" }, interpreter: ["sh", "-c"], stdout: "old" };
    const news = { environment: { A: "1", B: "3", C: "4" }, interpreter: ["bash"] };
    expect(paths(state, news)).toEqual([
      "update environment.B",
      "add environment.C",
      "update interpreter[0]",
      "delete interpreter[1]",
    ]);
  });

  test("quotes names that are no words", () => {
    expect(paths({ environment: {} }, { environment: { 'a-"b': "1" } })).toEqual(['add environment["a-\\"b"]']);
  });

  test("takes a trigger's change as a replacement", () => {
    expect(paths({ triggers: ["x"] }, { triggers: ["x", "y"] })).toEqual(["add-replace triggers[1]"]);
  });

  test("takes a missing input as null, and a value that becomes secret as changed", () => {
    expect(paths({ create: "a", stdin: null }, { create: "a" })).toEqual([]);
    expect(paths({ stdin: "s" }, { stdin: secret("s") })).toEqual(["update stdin"]);
    expect(paths({ stdin: secret("s") }, { stdin: secret("s") })).toEqual([]);
    expect(paths({ stdin: secret("s") }, { stdin: secret("t") })).toEqual(["update stdin"]);
  });

  test("leaves out what the program told Pulumi to ignore", () => {
    expect(paths({ create: "a", dir: "/" }, { create: "b", dir: "/tmp" }, ["create"])).toEqual(["update dir"]);
  });
});

test("inputs of the wrong kind are all named, with what is allowed", () => {
  const wrong = { create: 1, environment: { A: true }, interpreter: "sh", logging: "loud", dir: values.UNKNOWN };
  expect(checkInputs(wrong)).toEqual([
    { property: "create", reason: "got 1 — allowed: a string" },
    { property: "environment", reason: 'got {"A":true} — allowed: strings by name' },
    { property: "interpreter", reason: 'got "sh" — allowed: a list of strings' },
    { property: "logging", reason: 'got "loud" — allowed: stdout, stderr, stdoutAndStderr, none' },
  ]);
});

test("a command gets its secrets in the clear", () => {
  const properties = { stdin: secret("a"), environment: { S: secret("b") }, stdout: "no input", update: null };
  expect(toInputs(properties)).toEqual({ stdin: "a", environment: { S: "b" } });
});

/** Made with Go 1.26's `fmt.Sprintf("%q", …)`. */
test.each([
  ['a"b\\c\n\t\r\x07\x00\x1f\x7f', String.raw`"a\"b\\c\n\t\r\a\x00\x1f\x7f"`],
  ["é ü € 日本 🚀", '"é ü € 日本 🚀"'],
  ["\u00a0nbsp\u200bzw\u2028ls", String.raw`"\u00a0nbsp\u200bzw\u2028ls"`],
  ["\u{e0001}tag \ufeffbom", String.raw`"\U000e0001tag \ufeffbom"`],
])("quotes %j as Go does", (text, quoted) => {
  expect(quoteLikeGo(text)).toBe(quoted);
});

describe("asset patterns", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "tandem-assets-"));
    for (const file of ["assets/logos/logo.svg", "src/index.js", "src/secret.js", "src/deep/more.js", "a+b.txt"]) {
      mkdirSync(path.dirname(path.join(folder, file)), { recursive: true });
      writeFileSync(path.join(folder, file), file);
    }
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  test.each([
    // The example of the plugin's own documentation.
    [
      ["assets/**", "src/**.js", "!**secret.*"],
      ["assets/logos/logo.svg", "src/deep/more.js", "src/index.js"],
    ],
    [["src/*"], ["src/index.js", "src/secret.js"]],
    [["a+b.{txt,md}"], ["a+b.txt"]],
    [["src/[!i]*.js"], ["src/secret.js"]],
    [["src/inde?.js"], ["src/index.js"]],
    [["*"], ["a+b.txt"]],
  ])("%j", (patterns, files) => {
    expect(Object.keys(collectAssets(folder, patterns))).toEqual(files);
  });
});
