import { CLAIM, initContainers, RESTRICTED, workContainers, type PodRequest } from "./kubernetes-containers";
import { selectorLabels, stackLabels } from "./kubernetes-names";

const USER = 1000;
/** vLLM drains its requests, the trainer ends its step and keeps its jobs' checkpoints. */
const STOP_SECONDS = 120;
/** NCCL and vLLM's own queues between processes, of each worker; estimated. */
const SHARED_GIB_PER_WORKER = 2;
/** Adapters that are in use, which vLLM reads from memory. */
const ADAPTERS_GIB = 4;

export interface PodParts {
  /** Changes when a file does that pods read only when they start. */
  readonly contentHash: string;
  /** The gateway's container, made by kubernetes-gateway.ts, and its volumes. */
  readonly gateway: { readonly container: object; readonly volumes: readonly object[] };
}

/** The template of a stack's pods. */
export function podTemplate(request: PodRequest, { contentHash, gateway }: PodParts): object {
  const { name, settings, sharing } = request;
  const { kubernetes } = settings;
  return {
    metadata: {
      labels: stackLabels(name),
      annotations: {
        "tandem.dev/content-hash": contentHash,
        // Loading a model takes minutes: it isn't moved to save a node.
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "kubectl.kubernetes.io/default-container": sharing.kind === "single-container" ? "pair" : "serving",
      },
    },
    spec: {
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      terminationGracePeriodSeconds: STOP_SECONDS,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: USER,
        runAsGroup: USER,
        fsGroup: USER,
        fsGroupChangePolicy: "OnRootMismatch",
        seccompProfile: RESTRICTED.seccompProfile,
      },
      ...placement(request),
      ...(kubernetes.priorityClass !== undefined && { priorityClassName: kubernetes.priorityClass }),
      ...(kubernetes.runtimeClass !== undefined && { runtimeClassName: kubernetes.runtimeClass }),
      ...(kubernetes.images.pullSecrets.length > 0 && {
        imagePullSecrets: kubernetes.images.pullSecrets.map((secret) => ({ name: secret })),
      }),
      ...(sharing.kind === "dra" && { resourceClaims: [{ name: CLAIM, resourceClaimTemplateName: `${name}-gpus` }] }),
      initContainers: initContainers(request),
      containers: [...workContainers(request), gateway.container],
      volumes: [...volumes(request), ...gateway.volumes],
    },
  };
}

/** On nodes of the kind that was planned for, which is known by the label of its GPUs; claims choose by the device itself. */
function placement({ name, settings, chosen, plan }: PodRequest): object {
  const { nodeSelector, tolerations, pods } = settings.kubernetes;
  const product = chosen.node.labels["nvidia.com/gpu.product"];
  const isOnGpu = plan.device === "cuda";
  return {
    nodeSelector: {
      "kubernetes.io/os": "linux",
      ...(isOnGpu && product !== undefined && { "nvidia.com/gpu.product": product }),
      ...nodeSelector,
    },
    tolerations: [...(isOnGpu ? [{ key: "nvidia.com/gpu", operator: "Exists" }] : []), ...tolerations],
    ...(pods > 1 && {
      topologySpreadConstraints: [
        {
          maxSkew: 1,
          topologyKey: "kubernetes.io/hostname",
          whenUnsatisfiable: "ScheduleAnyway",
          labelSelector: { matchLabels: selectorLabels(name) },
        },
      ],
    }),
  };
}

function volumes({ name, plan }: PodRequest): object[] {
  const trains = plan.training.backend !== "off";
  const workers = plan.tensorParallel * plan.replicas * plan.pipelineParallel;
  const memoryGiB = SHARED_GIB_PER_WORKER * workers + (trains ? ADAPTERS_GIB : 0);
  return [
    // Docker's 64 MiB end NCCL with a bus error.
    { name: "memory", emptyDir: { medium: "Memory", sizeLimit: `${memoryGiB}Gi` } },
    { name: "tmp", emptyDir: {} },
    { name: "scripts", configMap: { name: `${name}-scripts`, defaultMode: 0o555 } },
    ...(trains ? [{ name: "trainer", configMap: { name: `${name}-trainer`, defaultMode: 0o444 } }] : []),
  ];
}
