import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { GatewayHost } from "./gateway-host";

/** What two H100 answer to the monitor's query, in nvidia-smi's own form (driver 580, November 2026). */
const NVIDIA_SMI = `#!/bin/sh
printf '%s\\n' '0, NVIDIA H100 80GB HBM3, 38516, 81559, 93, 61, 412.33' '1, NVIDIA H100 80GB HBM3, 38516, 81559, 91, 59, [N/A]'
`;

const VLLM_METRICS = `# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="Qwen/Qwen3-0.6B"} 3.0
# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="Qwen/Qwen3-0.6B"} 12345.0
`;

function job(id: string, status: string, steps: number) {
  return {
    id,
    status,
    created_at: 1,
    fine_tuned_model: status === "succeeded" ? `ft:Qwen/Qwen3-0.6B:${id}` : null,
    error: null,
    steps,
  };
}

const JOBS = [job("ftjob-two", "running", 12), job("ftjob-one", "succeeded", 140)];

/** A list as the trainer hands it out: `page` of its routes_files.py, a hundred at most. */
function page(items: readonly { readonly id: string }[]) {
  return (query: URLSearchParams) => {
    const limit = Number(query.get("limit") ?? 20);
    if (limit > 100) return { error: { message: `limit - got ${limit} - allowed: 1 to 100` } };
    const rest = items.slice(items.findIndex(({ id }) => id === query.get("after")) + 1);
    return { object: "list", data: rest.slice(0, limit), has_more: rest.length > limit };
  };
}

/** A gateway before services that have something to show: two GPUs, an adapter, a finished and a running job. */
export class Watched {
  readonly gateway: GatewayHost;
  private readonly folder = mkdtempSync(path.join(tmpdir(), "tandem-watched-"));

  constructor() {
    const bin = path.join(this.folder, "bin");
    mkdirSync(bin);
    // The gateway's user has to get there.
    for (const folder of [this.folder, bin]) chmodSync(folder, 0o755);
    writeFileSync(path.join(bin, "nvidia-smi"), NVIDIA_SMI);
    chmodSync(path.join(bin, "nvidia-smi"), 0o755);
    this.gateway = new GatewayHost({ PATH: `${bin}:${process.env["PATH"]}` });
    const { serving, training } = this.gateway;
    serving.answers.set("/metrics", VLLM_METRICS);
    serving.answers.set("/v1/models", {
      data: [
        { id: "Qwen/Qwen3-0.6B", parent: null },
        { id: "ft:Qwen/Qwen3-0.6B:ftjob-one", parent: "Qwen/Qwen3-0.6B" },
      ],
    });
    training.answers.set("/v1/fine_tuning/jobs", page(JOBS));
    for (const { id, steps } of JOBS) {
      const data = Array.from({ length: steps }, (_, step) => ({
        id: `ftevent-${step}`,
        type: "metrics",
        data: { step: step + 1, train_loss: 4 * Math.exp(-step / 15) + 0.2 * Math.sin(step) },
      }));
      training.answers.set(`/v1/fine_tuning/jobs/${id}/events`, page(data.toReversed()));
    }
  }

  async close(): Promise<void> {
    await this.gateway.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
