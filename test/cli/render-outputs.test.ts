import { describe, expect, it } from "vitest";
import { renderOutputs } from "../../cli/render-outputs";
import type { Outputs } from "../../stacks/outputs";
import { OUTPUTS } from "./fixtures/outputs";

const render = (outputs: Outputs) => renderOutputs(outputs, "local", process.stdout);
const tunnel = (port: number, host: string) => `ssh -N -L ${port}:127.0.0.1:8000 ${host}`;
const host = (name: string, port: number): Outputs["hosts"][number] => ({
  name,
  address: name,
  target: name,
  baseUrl: `http://127.0.0.1:${port}/v1`,
  connect: tunnel(port, name),
  health: "healthy",
  tensorParallel: 1,
  replicas: 1,
  gpus: [],
});

describe("the end of tandem up", () => {
  it("opens the tunnel before it asks, where the API is on a host's loopback", () => {
    const connect = tunnel(8000, "gpu1");
    const text = render({ ...OUTPUTS, endpoints: { ...OUTPUTS.endpoints, connect } });
    expect(text).toContain(`Open the way to it, and leave it open:\n  ${connect}\nAsk it:\n`);
    expect(render(OUTPUTS)).not.toContain("Open the way");
  });

  it("has the address of each of several hosts", () => {
    const text = render({ ...OUTPUTS, hosts: [host("gpu1", 8000), host("gpu2", 8001)] });
    expect(text).toContain(`  gpu2: healthy, http://127.0.0.1:8001/v1, by ${tunnel(8001, "gpu2")}\n`);
    expect(render({ ...OUTPUTS, hosts: [host("gpu1", 8000)] })).not.toContain("gpu1");
  });
});
