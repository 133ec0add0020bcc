import { builtInShape } from "../../plan/built-in-shapes";
import { gatewayDocument, type GatewayDocument } from "../../plan/gateway-plan";
import { hypotheticalHost } from "../../plan/gpu-types";
import { makePlan } from "../../plan/make-plan";
import { parseSettings } from "../../plan/settings";

const MODEL = "Qwen/Qwen3-0.6B";

/** What the gateway's step gets for these settings, planned for a machine with two GPUs. @throws Error naming the problems */
export function gatewayDocumentOf(more: Readonly<Record<string, unknown>>): GatewayDocument {
  const { settings, problems } = parseSettings({ model: MODEL, gpus: 2, ...more });
  const hosts = [hypotheticalHost({ gpus: 2, gpuType: "h100-80gb" })];
  const shape = builtInShape(MODEL);
  const plan = settings && shape && makePlan({ settings, shape, hosts }).plan;
  const document = settings && plan && gatewayDocument(settings, plan, { address: "127.0.0.1" });
  if (document === undefined) throw new Error(`no gateway is planned: ${JSON.stringify(problems)}`);
  return document;
}
