import type { Plan, PlanRequest } from "./plan";
import { servingPort } from "./serving-port";
import { startupBudget } from "./time";

type CommonFields =
  | "model"
  | "revision"
  | "architecture"
  | "parameters"
  | "pipelineParallel"
  | "split"
  | "trustRemoteCode"
  | "lora"
  | "port"
  | "servingPort";

/** What a plan takes over from the settings and the model as it is, on GPUs and on the CPU. */
export function commonFields({ settings, shape }: PlanRequest): Pick<Plan, CommonFields> {
  return {
    model: settings.model,
    revision: settings.revision,
    architecture: shape.architecture,
    parameters: shape.parameters,
    pipelineParallel: settings.pipelineParallel,
    split: settings.split,
    trustRemoteCode: settings.serving.trustRemoteCode,
    lora: settings.lora,
    port: settings.port,
    servingPort: servingPort(settings),
  };
}

/** The start-up budget of a layout, or the limit that the user set. */
export function startupOf(
  { settings, shape }: PlanRequest,
  layout: Pick<Plan, "device" | "enforceEager" | "tensorParallel" | "replicas">,
): Plan["startup"] {
  return startupBudget({
    shape,
    device: layout.device,
    enforceEager: layout.enforceEager,
    workersPerReplica: layout.tensorParallel * settings.pipelineParallel,
    replicas: layout.replicas,
    timeoutSeconds: settings.serving.startupTimeoutSeconds,
  });
}
