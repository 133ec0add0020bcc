import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { debianProgram } from "../fixtures/debian-program";
import { freePort } from "../fixtures/free-port";
import { KEYS } from "./gateway-host";
import { Watched } from "./watched";

const EXAMPLES = path.resolve(__dirname, "../../examples/observability");

interface Dashboard {
  readonly panels: readonly { readonly title: string; readonly targets: readonly { readonly expr: string }[] }[];
}

describe("metrics behind the gateway, read by the real Prometheus", () => {
  const watched = new Watched();
  const { gateway } = watched;
  const folder = mkdtempSync(path.join(tmpdir(), "tandem-metrics-"));
  const promtool = debianProgram("prometheus", "usr/bin/promtool");
  const check = (argv: string[], input?: string) =>
    execFileSync(promtool, argv, { input, cwd: folder, encoding: "utf8" });
  const scraped = async () => (await gateway.fetch("/metrics", { key: KEYS.default })).text();

  beforeAll(async () => {
    await gateway.start();
    cpSync(EXAMPLES, folder, { recursive: true });
    writeFileSync(path.join(folder, "api-key"), KEYS.default, { mode: 0o600 });
  });
  afterAll(async () => {
    await watched.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it("are closed without a key", async () => {
    expect((await gateway.fetch("/metrics")).status).toBe(401);
    expect((await gateway.fetch("/status.json")).status).toBe(401);
  });

  it("hold vLLM's, the trainer's, the GPUs' and the gateway's in a form that promtool finds nothing wrong with", async () => {
    const text = await scraped();
    for (const line of [
      'vllm:generation_tokens_total{engine="0",model_name="Qwen/Qwen3-0.6B"} 12345.0',
      'tandem_service_up{service="serving"} 1',
      'tandem_service_up{service="training"} 1',
      'tandem_training_jobs{status="running"} 1',
      'tandem_gpu_memory_used_bytes{gpu="0",model="NVIDIA H100 80GB HBM3"} 40386953216',
      'tandem_gateway_connections{state="writing"}',
    ]) {
      expect(text).toContain(line);
    }
    // What nvidia-smi does not know is left out, not zero.
    expect(text).not.toMatch(/tandem_gpu_power_watts\{gpu="1"/);
    expect(check(["check", "metrics"], text.replace(/^.*vllm:.*\n/gm, ""))).toBe("");
  });

  it("come with a scrape and alert rules that promtool accepts", () => {
    expect(check(["check", "config", "prometheus.yml"])).toContain("7 rules found");
  });

  it("are scraped by the example's configuration, and every panel of the dashboard is a query that Prometheus answers", async () => {
    const port = await freePort();
    const config = readFileSync(path.join(folder, "prometheus.yml"), "utf8")
      .replace("127.0.0.1:8000", `127.0.0.1:${gateway.port}`)
      .replace("scrape_interval: 15s", "scrape_interval: 1s");
    writeFileSync(path.join(folder, "prometheus.yml"), config);
    const argv = [
      `--web.listen-address=127.0.0.1:${port}`,
      "--config.file=prometheus.yml",
      `--storage.tsdb.path=${folder}/data`,
    ];
    const prometheus = spawn(debianProgram("prometheus", "usr/bin/prometheus"), argv, { cwd: folder, stdio: "ignore" });
    try {
      const ask = async (query: string) => {
        const response = await fetch(`http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(query)}`);
        return (await response.json()) as { status: string; data: { result: { value: [number, string] }[] } };
      };
      const up = async () => (await ask('up{job="tandem"}').catch(() => undefined))?.data.result[0]?.value[1];
      await expect.poll(up, { timeout: 60_000 }).toBe("1");
      const dashboard = JSON.parse(readFileSync(path.join(EXAMPLES, "grafana/tandem.json"), "utf8")) as Dashboard;
      for (const { title, targets } of dashboard.panels) {
        for (const { expr } of targets) {
          expect((await ask(expr.replaceAll("$instance", ".*"))).status, `${title}: ${expr}`).toBe("success");
        }
      }
      const memory = dashboard.panels.find(({ title }) => title === "GPU memory")!.targets[0]!.expr;
      expect((await ask(memory.replaceAll("$instance", ".*"))).data.result).toHaveLength(2);
    } finally {
      prometheus.kill("SIGKILL");
    }
  });
});
