import type { Problem } from "./problem";
import type { Settings } from "./settings";

/** Problems between the settings of a cluster and others. */
export function kubernetesProblems(settings: Settings): Problem[] {
  if (settings.target !== "kubernetes") return [];
  return RULES.flatMap((rule) => rule(settings) ?? []);
}

const RULES: readonly ((settings: Settings) => Problem | undefined)[] = [
  ({ kubernetes, training }) =>
    kubernetes.pods > 1 && training.backend !== "off"
      ? {
          setting: "kubernetes.pods",
          what: "several pods that train would each know only their own jobs and adapters",
          value: String(kubernetes.pods),
          allowed: "1 with a trainer",
          fix: "set it to 1, or `training.backend` to off; examples/kubernetes has training over several nodes",
        }
      : undefined,
  ({ kubernetes: { expose, host } }) =>
    expose !== "clusterIP" && host === undefined
      ? {
          setting: "kubernetes.host",
          what: `is missing, and \`expose: ${expose}\` needs it`,
          allowed: "the domain name that clients call",
          fix: "set it, or `kubernetes.expose` to clusterIP",
        }
      : undefined,
  ({ kubernetes: { expose, gatewayName } }) =>
    expose === "gateway-api" && gatewayName === undefined
      ? {
          setting: "kubernetes.gatewayName",
          what: "is missing, and `expose: gateway-api` needs it",
          allowed: "name, or namespace/name, of a Gateway",
          fix: "set it (`kubectl get gateways -A` lists them)",
        }
      : undefined,
  ({ kubernetes: { expose, allowNamespaces } }) =>
    expose !== "clusterIP" && allowNamespaces.length === 0
      ? {
          setting: "kubernetes.allowNamespaces",
          what: `is empty, so the NetworkPolicy would keep out the controller that \`expose: ${expose}\` needs`,
          allowed: "the namespace where the Ingress controller or the Gateway runs",
          fix: 'set it, for example to ["ingress-nginx"]',
        }
      : undefined,
  ({ gpus, kubernetes: { images } }) =>
    gpus === 0 && images.serving === undefined
      ? {
          setting: "kubernetes.images.serving",
          what: "is missing, and the usual image of vLLM is for GPUs",
          fix: "set it to an image that has vLLM for the CPU",
        }
      : undefined,
  ({ ttl, kubernetes: { createNamespace } }) =>
    ttl !== undefined && !createNamespace
      ? {
          setting: "ttl",
          what: "is kept on the stack's own namespace, and `kubernetes.createNamespace` is false",
          value: ttl,
          fix: "set `kubernetes.createNamespace` to true, or leave `ttl` out",
        }
      : undefined,
  ({ exposure }) =>
    exposure !== undefined
      ? {
          setting: "exposure",
          what: "is about machines; a cluster's service is exposed by `kubernetes.expose`",
          value: exposure,
          fix: "leave it out",
        }
      : undefined,
  ({ devices }) =>
    devices !== undefined
      ? {
          setting: "devices",
          what: "can't be chosen in a cluster, which hands out GPUs itself",
          value: devices.join(", "),
          fix: "set `gpus` to how many there shall be",
        }
      : undefined,
];
