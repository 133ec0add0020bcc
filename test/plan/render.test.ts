import { describe, expect, it } from "vitest";
import { renderPlan } from "../../plan";
import { CPU_HOST, H100S, planOf } from "./hosts";

// eslint-disable-next-line no-control-regex -- the escape character is what is looked for
const COLOR = /\u001b\[\d+m/g;

describe("the drawing of a plan", () => {
  const plan = planOf({ model: "meta-llama/Llama-3.1-8B", training: { backend: "megatron-bridge" } }, H100S(2));

  it("shows verdict, layout, reasons, a bar for each GPU, tokens, start-up and warnings", () => {
    const text = renderPlan(plan, { width: 100, color: false });
    expect(text).toMatch(/^fits {2}meta-llama\/Llama-3\.1-8B .*tensor parallel 1 x 2 replicas/);
    expect(text.match(/^GPU [01] \[/gm)).toHaveLength(2);
    for (const word of ["because", "KV cache", "start-up", "warning", "LoRA gradients and optimizer", "slack"]) {
      expect(text).toContain(word);
    }
    expect(text).not.toMatch(COLOR);
  });

  it("draws bars to scale, as wide as the card", () => {
    const [bar = ""] = renderPlan(plan, { width: 100, color: false }).match(/(?<=^GPU 0 \[)[^\]]*/m) ?? [];
    expect(bar).toHaveLength(60);
    // Serving has 40 % of the card and its letters are the capitals.
    expect(bar.replaceAll(/[^A-Z]/g, "")).toHaveLength(24);
    expect(bar.replaceAll(/[^a-z]/g, "").length).toBeGreaterThanOrEqual(35);
  });

  it("says the same in colour", () => {
    const plain = renderPlan(plan, { width: 100, color: false });
    expect(renderPlan(plan, { width: 100, color: true })).not.toBe(plain);
    expect(renderPlan(plan, { width: 100, color: true }).replaceAll(COLOR, "")).toBe(plain);
  });

  it.each([40, 60, 80, 120])("keeps reasons, bars and legends within %i columns", (width) => {
    const lines = renderPlan(plan, { width, color: false }).split("\n").slice(1);
    for (const line of lines.filter((text) => /^( |GPU|warning)/.test(text))) {
      expect(line.length).toBeLessThanOrEqual(width + 12);
    }
  });

  it("shows the host's memory on the CPU", () => {
    const text = renderPlan(planOf({}, CPU_HOST), { width: 100, color: false });
    expect(text).toContain("on the CPU");
    expect(text.match(/^memory \[/gm)).toHaveLength(1);
  });
});
