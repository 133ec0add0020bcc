import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { targetName } from "../../bootstrap/runner/targets";
import { chooseTarget, environmentTargets, forgetHosts, keepsCache, rememberHosts } from "../../cli/environment-hosts";
import type { Environment } from "../../cli/environments";

let folder: string;
let environment: Environment;

function settings(text: string): void {
  writeFileSync(environment.file, text);
}
function names(): string[] {
  return environmentTargets(environment).map(targetName);
}

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "tandem-hosts-"));
  const file = path.join(folder, "Pulumi.test.yaml");
  environment = {
    name: "test",
    folder,
    file,
    source: { kind: "workspace", path: file },
    logs: path.join(folder, "logs"),
  };
  mkdirSync(environment.logs);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const TWO = "config:\n  tandem:target: ssh\n  tandem:ssh:\n    hosts: [gpu1, gpu2]\n";
const ONE = "config:\n  tandem:target: ssh\n  tandem:ssh:\n    hosts: [gpu2]\n";

describe("the hosts of an environment", () => {
  it("are those of its settings, before anything has run", () => {
    settings(TWO);
    expect(names()).toEqual(["gpu1", "gpu2"]);
  });

  it("keep models and runtimes by default where they are this machine, and not where it was borrowed", () => {
    settings("config: {}\n");
    expect(keepsCache(environment)).toBe(true);
    settings("config:\n  tandem:cache: remove\n");
    expect(keepsCache(environment)).toBe(false);
    settings(TWO);
    expect(keepsCache(environment)).toBe(false);
  });

  it("include one that was taken out of the settings after a run, until it is forgotten", () => {
    settings(TWO);
    rememberHosts(environment, environmentTargets(environment));
    settings(ONE);
    expect(names()).toEqual(["gpu2", "gpu1"]);
    forgetHosts(environment);
    expect(names()).toEqual(["gpu2"]);
  });

  it("are still known when the settings can't be read any more", () => {
    settings(TWO);
    rememberHosts(environment, environmentTargets(environment));
    settings("config:\n  tandem:target: moon\n");
    expect(names()).toEqual(["gpu1", "gpu2"]);
  });

  it("are this machine where nothing else is said", () => {
    settings("config: {}\n");
    expect(names()).toEqual(["local"]);
  });

  it("must be named where there are several", () => {
    settings(TWO);
    const targets = environmentTargets(environment);
    expect(() => chooseTarget(targets, undefined)).toThrow(/several hosts.*gpu1, gpu2/);
    expect(() => chooseTarget(targets, "gpu3")).toThrow(/no host of this name — got gpu3 — allowed: gpu1, gpu2/);
    expect(targetName(chooseTarget(targets, "gpu2"))).toBe("gpu2");
  });
});
