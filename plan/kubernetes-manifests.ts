import { CLAIM, servingLaunch, type PodRequest } from "./kubernetes-containers";
import { GPU_DEVICE_CLASS } from "./kubernetes-facts";
import { gatewayPart, podGatewayConfiguration } from "./kubernetes-gateway";
import { contentHash, namespaceTags, selectorLabels, stackLabels, type Manifest } from "./kubernetes-names";
import { networkManifests } from "./kubernetes-network";
import { podTemplate } from "./kubernetes-pod";
import { cacheAtDestroy } from "./lease-defaults";
import type { Plan } from "./plan";
import type { RunMark } from "./run-tags";
import type { Settings } from "./settings";

export interface ManifestRequest extends PodRequest {
  /** Scripts that run in pods, by file name; and the trainer's package. Read by the caller, since planning reads no files. */
  readonly files: {
    readonly scripts: Readonly<Record<string, string>>;
    readonly trainer: Readonly<Record<string, string>>;
  };
  /** Whose the namespace is and when it ends; absent for a namespace of the user's own. */
  readonly mark?: RunMark;
}

export interface ClusterManifests {
  /** In the order in which they are made. */
  readonly objects: readonly Manifest[];
  /** The Secret that pods refer to; who makes it puts `apiKey`, `upstreamKey`, `keys.conf` and perhaps `hubToken` into it. */
  readonly secretName: string;
  /** What the runtime can't do as planned. */
  readonly warnings: readonly string[];
}

/** Everything that a stack has in a cluster, but the Secret, as plain objects: it prints, it diffs, the API server can check it. */
export function kubernetesManifests(request: ManifestRequest): ClusterManifests {
  const { name, settings, plan, files, mark, sharing } = request;
  const { namespace, createNamespace } = settings.kubernetes;
  const trains = plan.training.backend !== "off";
  const gateway = podGatewayConfiguration(settings, plan);
  const config = (part: string, data: Readonly<Record<string, string>>): Manifest => ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: `${name}-${part}`, namespace, labels: stackLabels(name) },
    data,
  });
  const hash = contentHash({ ...files.scripts, ...(trains ? files.trainer : {}), gateway });
  return {
    objects: [
      ...(createNamespace ? [namespaceManifest(namespace, mark)] : []),
      config("plan", { "plan.json": JSON.stringify(lastingPlan(plan), undefined, 2), sharing: sharing.reason }),
      config("scripts", files.scripts),
      ...(trains ? [config("trainer", files.trainer)] : []),
      config("gateway", { "nginx.conf": gateway }),
      ...(sharing.kind === "dra" ? [claimTemplate(request, sharing.apiVersion)] : []),
      ...networkManifests(request),
      disruptionBudget(name, settings),
      statefulSet(request, hash),
    ],
    secretName: `${name}-keys`,
    // The usual image has the vLLM of `vllmVersion`, whose options are known.
    warnings: settings.kubernetes.images.serving === undefined ? [] : servingLaunch(request).warnings,
  };
}

/** The plan without what is the case just now, such as GPUs that are in use: that would be a change at the next run. */
export function lastingPlan(plan: Plan): Plan {
  return { ...plan, warnings: [] };
}

/** Held to the restricted standard: a pod that would need more is refused by the API server. */
function namespaceManifest(namespace: string, mark: RunMark | undefined): Manifest {
  const tags = mark === undefined ? { labels: {}, annotations: {} } : namespaceTags(mark);
  return {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: {
      name: namespace,
      labels: {
        ...tags.labels,
        "app.kubernetes.io/managed-by": "tandem",
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/warn": "restricted",
      },
      annotations: tags.annotations,
    },
  };
}

/** Whole GPUs of the kind that was planned for, all on one node since one pod uses them. */
function claimTemplate({ name, settings, plan, chosen }: PodRequest, version: "v1" | "v1beta2" | "v1beta1"): Manifest {
  const product = chosen.gpus?.product;
  const fromSlice = chosen.node.labels["nvidia.com/gpu.product"] === undefined && product !== undefined;
  const request = {
    deviceClassName: GPU_DEVICE_CLASS,
    allocationMode: "ExactCount",
    count: plan.gpuIndices.length,
    ...(fromSlice && {
      selectors: [
        { cel: { expression: `device.attributes["${GPU_DEVICE_CLASS}"].productName == ${JSON.stringify(product)}` } },
      ],
    }),
  };
  return {
    apiVersion: `resource.k8s.io/${version}`,
    kind: "ResourceClaimTemplate",
    metadata: { name: `${name}-gpus`, namespace: settings.kubernetes.namespace, labels: stackLabels(name) },
    // Before v1beta2 a request had its fields directly.
    spec: {
      spec: {
        devices: {
          requests: [version === "v1beta1" ? { name: CLAIM, ...request } : { name: CLAIM, exactly: request }],
        },
      },
    },
  };
}

/** One pod at a time is taken from a node that is drained; one that is not ready stands in nobody's way. */
function disruptionBudget(name: string, { kubernetes }: Settings): Manifest {
  return {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: { name, namespace: kubernetes.namespace, labels: stackLabels(name) },
    spec: {
      maxUnavailable: 1,
      unhealthyPodEvictionPolicy: "AlwaysAllow",
      selector: { matchLabels: selectorLabels(name) },
    },
  };
}

function statefulSet(request: ManifestRequest, hash: string): Manifest {
  const { name, settings, plan } = request;
  const { kubernetes } = settings;
  const afterwards = cacheAtDestroy(settings) === "keep" ? "Retain" : "Delete";
  return {
    apiVersion: "apps/v1",
    kind: "StatefulSet",
    metadata: {
      name,
      namespace: kubernetes.namespace,
      labels: stackLabels(name),
      // Pulumi is done when it is there: it knows no reasons of pods that do not come, so the proof waits for them. Its end is awaited
      // with that of its pods, since another one of the same name can't be made before.
      annotations: { "pulumi.com/waitFor": "jsonpath={.metadata.uid}", "pulumi.com/timeoutSeconds": "300" },
    },
    spec: {
      replicas: kubernetes.pods,
      serviceName: `${name}-pods`,
      podManagementPolicy: "Parallel",
      selector: { matchLabels: selectorLabels(name) },
      updateStrategy: { type: "RollingUpdate" },
      persistentVolumeClaimRetentionPolicy: {
        whenDeleted: afterwards,
        whenScaled: afterwards,
      },
      template: podTemplate(request, { contentHash: hash, gateway: gatewayPart(name, settings, plan) }),
      volumeClaimTemplates: [
        {
          metadata: { name: "cache", labels: selectorLabels(name) },
          spec: {
            accessModes: ["ReadWriteOnce"],
            ...(kubernetes.storageClass !== undefined && { storageClassName: kubernetes.storageClass }),
            resources: { requests: { storage: `${cacheSizeGiB(request)}Gi` } },
          },
        },
      ],
    },
  };
}

/** Compiled kernels and graphs of vLLM; estimated. */
const COMPILED_GIB = 4;
/** The trainer's service packages beside an image that has PyTorch; estimated. */
const TRAINER_PACKAGES_GIB = 1;

/** The volume of a pod: weights while they are put in place, environments, checkpoints, and a tenth to spare. */
export function cacheSizeGiB({ settings, plan, sharing }: Pick<PodRequest, "settings" | "plan" | "sharing">): number {
  const { cacheSizeGiB: wanted } = settings.kubernetes;
  if (wanted !== "auto") return wanted;
  const { weightsGiB, checkpointsGiB } = plan.disk;
  const needed =
    weightsGiB +
    checkpointsGiB +
    COMPILED_GIB +
    (plan.training.backend === "off" ? 0 : TRAINER_PACKAGES_GIB) +
    (sharing.kind === "single-container" ? VLLM_ENVIRONMENT_GIB : 0);
  return Math.ceil(needed * 1.1);
}

/** vLLM's own environment beside the trainer's image; the same as on a host (plan/disk.ts). */
const VLLM_ENVIRONMENT_GIB = 12;

/** What the settings mean in a cluster: there is always a gateway in front, since Services reach pods by their address. */
export function settingsForCluster(settings: Settings): Settings {
  return { ...settings, gateway: { ...settings.gateway, enabled: true } };
}
