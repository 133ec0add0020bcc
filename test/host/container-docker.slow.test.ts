import { chmodSync, copyFileSync, cpSync, mkdirSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { RuntimeFacts } from "../../plan";
import { writeStandInImage } from "../fakes/vllm/image";
import { writeStandIn } from "../fakes/vllm/runtime";
import { describeOnHosts, type Fleet, startHosts, type TestHost } from "../fixtures/hosts/hosts";
import { StackOnHost } from "./stack-on-host";

const API_KEY = `tdm-canary-${process.pid}-real-docker-0123456789`;
const DAEMON = {
  "default-runtime": "here",
  runtimes: { here: { path: "/usr/local/bin/runc-in-a-host" } },
  "storage-driver": "vfs",
  iptables: false,
  bridge: "none",
};

describeOnHosts("vLLM's stand-in in a container of the real docker, under systemd", { timeout: 120_000 }, () => {
  let fleet: Fleet | undefined;
  let host: TestHost;
  let stack: StackOnHost;
  let container: NonNullable<RuntimeFacts["container"]>;
  let python: string;

  beforeAll(async () => {
    fleet = await startHosts(["docker"], { diskGiB: 4 });
    host = fleet.host("docker");
    const at = (file: string) => path.join(host.root, file);
    mkdirSync(at("etc/docker"), { recursive: true });
    writeFileSync(at("etc/docker/daemon.json"), JSON.stringify(DAEMON));
    copyFileSync(path.resolve(__dirname, "../fixtures/runc-in-a-host.py"), at("usr/local/bin/runc-in-a-host"));
    chmodSync(at("usr/local/bin/runc-in-a-host"), 0o755);
    const stand = path.join(host.root, "srv/stand-in");
    mkdirSync(stand);
    writeStandIn(stand);
    cpSync(path.join(stand, "model"), at("srv/model"), { recursive: true });
    writeStandInImage(at("srv/image.tar"));
    await host.exec(
      "apt-get update >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends docker.io >/dev/null 2>&1 && docker info >/dev/null",
      200,
    );
    stack = new StackOnHost(host, "root");
    stack.putScripts();
  }, 300_000);
  afterAll(() => fleet?.close());

  async function applied<Result>(step: string, document: unknown): Promise<Result> {
    const answer = await stack.run(["apply", step], { document, secrets: { apiKey: API_KEY } });
    expect(answer, answer.stderr).toMatchObject({ code: 0 });
    return JSON.parse(answer.stdout) as Result;
  }

  function serving() {
    const argv = [container.python, "-m", "vllm.entrypoints.openai.api_server", "--model", "/srv/model"];
    argv.push("--served-model-name", "m", "--host", "127.0.0.1", "--port", "8000", "--dtype", "bfloat16");
    argv.push("--max-model-len", "512", "--kv-cache-memory-bytes", "67108864");
    const limits = { port: 8000, startupSeconds: 60, stopSeconds: 5 };
    return applied<{ unitId: string }>("serving", {
      ...{ argv, env: {}, python, ...limits },
      container: { ...container, device: "cpu", mounts: ["/srv/model"] },
    });
  }

  const containers = async () => (await host.exec("docker ps -aq")).trim().split("\n").filter(Boolean);

  it("runs, is proven by the processes of docker's container, and keeps its key", async () => {
    await applied("lease", { stack: "one", exclusive: true, cache: "remove" });
    const document = { kind: "container", device: "cpu", vllmVersion: "0.32.0", image: "/srv/image.tar" };
    const runtime = await applied<RuntimeFacts>("runtime", document);
    expect(runtime.container).toMatchObject({ kind: "docker", rootless: false });
    if (runtime.container === undefined) return;
    ({ container, python } = { container: runtime.container, python: runtime.python });
    const { unitId } = await serving();
    const proof = { baseUrl: "http://127.0.0.1:8000", model: "m", deadlineSeconds: 30, unit: "serving" };
    expect(await applied("proof", proof)).toMatchObject({ tensorParallel: 1, replicas: 1, unitId });
    expect(await containers()).toHaveLength(1);
    const shown = await host.exec(
      "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; docker inspect -f '{{.Path}} {{.Args}}' $(docker ps -q)",
    );
    expect(shown).toContain("--served-model-name m");
    expect(shown).not.toContain(API_KEY);
    for (const check of await stack.check()) expect(check).toMatchObject({ holds: true });
  });

  it("is started again when the container dies, and when the whole unit is killed", async () => {
    for (const blow of ["docker kill $(docker ps -q)", "systemctl kill -s KILL tandem-one-serving"]) {
      const before = (await containers())[0];
      await host.exec(blow);
      await host.exec(
        `for i in $(seq 200); do now=$(docker ps -q); [ -n "$now" ] && [ "$now" != ${before} ] && python3 -c "$0" && exit 0; sleep 0.2; done; exit 1`.replace(
          "$0",
          "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health')",
        ),
        60,
      );
      expect(await containers(), blow).toHaveLength(1);
    }
  });

  it("leaves nothing: no container, no image, no unit", async () => {
    const answer = await stack.run(["sweep"]);
    expect(answer, answer.stderr).toMatchObject({ code: 0 });
    expect(await containers()).toEqual([]);
    expect((await host.exec("docker images -aq")).trim()).toBe("");
    expect((await host.exec("ls /etc/systemd/system | grep -c tandem || true")).trim()).toBe("0");
  });
});
