import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CommandError } from "../../cli/exit";
import { SettingsFile } from "../../cli/settings-file";

describe("a settings file", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(path.join(tmpdir(), "tandem-settings-"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const file = (text: string): string => {
    const written = path.join(folder, "Pulumi.t.yaml");
    writeFileSync(written, text);
    return written;
  };

  it("gives the values as Pulumi's program sees them, without what is encrypted", () => {
    const settings = SettingsFile.read(
      file(
        "config:\n  tandem:gpus: 4\n  tandem:model: a/b\n  tandem:split:\n    serving: 0.3\n  tandem:hubToken:\n    secure: AAAB\n",
      ),
    );
    expect(settings.config()).toEqual({
      "tandem:gpus": "4",
      "tandem:model": "a/b",
      "tandem:split": '{"serving":0.3}',
    });
    expect(settings.hasSecrets).toBe(true);
  });

  it("keeps comments, order and everything else when a setting changes", () => {
    const written = file("# mine\nconfig:\n  tandem:gpus: 4 # all of them\n  other:key: stays\nencryptionsalt: v1:x\n");
    const settings = SettingsFile.read(written);
    settings.set(["gpus"], 2);
    settings.set(["lora", "maxRank"], 32);
    settings.write();
    expect(readFileSync(written, "utf8")).toBe(
      "# mine\nconfig:\n  tandem:gpus: 2 # all of them\n  other:key: stays\n  tandem:lora:\n    maxRank: 32\nencryptionsalt: v1:x\n",
    );
  });

  it("makes room for a field where a word stood", () => {
    const settings = SettingsFile.read(file("config:\n  tandem:split: balanced\n"));
    settings.set(["split", "serving"], 0.3);
    expect(settings.config()).toEqual({ "tandem:split": '{"serving":0.3}' });
  });

  it("starts from an empty file", () => {
    const settings = SettingsFile.read(file(""));
    settings.set(["port"], 8001);
    expect(settings.config()).toEqual({ "tandem:port": "8001" });
  });

  it("takes over salt and secrets of the file that it replaces, and nothing else", () => {
    const old = SettingsFile.read(
      file("config:\n  tandem:gpus: 1\n  tandem:hubToken:\n    secure: AAAB\nencryptionsalt: v1:x\n"),
    );
    const settings = SettingsFile.read(file("config:\n  tandem:port: 8001\n"));
    settings.adoptSecrets(old);
    settings.write();
    expect(readFileSync(settings.path, "utf8")).toBe(
      "config:\n  tandem:port: 8001\n  tandem:hubToken:\n    secure: AAAB\nencryptionsalt: v1:x\n",
    );
  });

  it.each(["a: [", "- list\n", "config: text\n"])("refuses %j as settings and names the file", (text) => {
    expect(() => SettingsFile.read(file(text))).toThrow(CommandError);
    expect(() => SettingsFile.read(file(text))).toThrow(/Pulumi\.t\.yaml: not a settings file/);
  });

  it.each([
    ["tandem:model: a/b\n", "`tandem:model` stands outside of `config:`"],
    ["config:\n  model: a/b\n", "`model` lacks its `tandem:`"],
    ["config:\n  tandem:\n    model: a/b\n", "`tandem` lacks its `tandem:`"],
  ])("does not overlook a setting in the wrong place: %j", (text, why) => {
    expect(() => SettingsFile.read(file(text))).toThrow(why);
  });
});
