import { z } from "zod";
import { setting } from "./setting";

const dnsLabel = z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);
/** A name that may hold dots: classes, secrets, hosts. */
const dnsName = z.string().regex(/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/);
const image = z.string().regex(/^[a-z0-9][\w.:/@-]*$/);
const labels = z.record(z.string().min(1).max(317), z.string().max(63));

const toleration = z.strictObject({
  key: z.string().min(1).optional(),
  operator: z.enum(["Exists", "Equal"]).optional(),
  value: z.string().optional(),
  effect: z.enum(["NoSchedule", "PreferNoSchedule", "NoExecute"]).optional(),
});

/** What runs in the containers. A tag may come to mean another image; `name@sha256:…` never does. */
const imageSettings = z
  .strictObject({
    serving: setting(image.optional(), {
      doc: "Image with vLLM in its `python3`.",
      allowed: "a reference such as registry/name:tag or name@sha256:…",
      otherwise: "`docker.io/vllm/vllm-openai` of `vllmVersion`; on the CPU there is no usual one",
      example:
        "registry.example.com/vllm-openai@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    }),
    training: setting(image.default("nvcr.io/nvidia/nemo:26.08"), {
      doc: "Image with Megatron-Bridge, or PEFT, in its `python3`. With `gpuSharing: single-container` vLLM is installed beside it.",
      allowed: "a reference such as registry/name:tag or name@sha256:…",
      example: "nvcr.io/nvidia/nemo:26.08",
    }),
    gateway: setting(image.default("docker.io/nginxinc/nginx-unprivileged:1.30.1"), {
      doc: "Image with nginx, run as a user without rights.",
      allowed: "a reference such as registry/name:tag or name@sha256:…",
      example: "docker.io/nginxinc/nginx-unprivileged:1.30.1",
    }),
    pullSecrets: setting(z.array(dnsName).default([]), {
      doc: "Secrets of the namespace with the registries' passwords.",
      allowed: "a list of names of Secrets",
      example: ["registry"],
    }),
  })
  .prefault({});

/** Where pods may run. */
const placement = {
  nodeSelector: setting(labels.default({}), {
    doc: "Labels that a node must have, besides those that its GPUs give it.",
    allowed: "labels with their values",
    example: { "node.example.com/pool": "gpu" },
  }),
  tolerations: setting(z.array(toleration).default([]), {
    doc: "Taints that the pods tolerate, besides `nvidia.com/gpu`, which GPU nodes usually have.",
    allowed: "a list of tolerations as Kubernetes writes them",
    example: [{ key: "dedicated", operator: "Equal", value: "llm", effect: "NoSchedule" }],
  }),
  priorityClass: setting(dnsName.optional(), {
    doc: "Priority class of the pods.",
    allowed: "the name of a PriorityClass of the cluster",
    otherwise: "the cluster's own default",
    example: "production",
  }),
  runtimeClass: setting(dnsName.optional(), {
    doc: "Container runtime of the pods; clusters whose usual runtime hands out no GPUs have one called `nvidia`.",
    allowed: "the name of a RuntimeClass of the cluster",
    otherwise: "the nodes' own default",
    example: "nvidia",
  }),
};

/** Who may reach the service, and how. */
const exposure = {
  expose: setting(z.enum(["clusterIP", "ingress", "gateway-api"]).default("clusterIP"), {
    doc: "How the API is reached: inside the cluster and by `kubectl port-forward`, through an Ingress, or through a Gateway of the Gateway API.",
    allowed: "clusterIP, ingress or gateway-api",
    example: "clusterIP",
  }),
  host: setting(dnsName.optional(), {
    doc: "Name that clients call the service by, for `expose` ingress or gateway-api.",
    allowed: "a domain name",
    otherwise: "there is none: both need it",
    example: "llm.example.com",
  }),
  ingressClass: setting(dnsName.optional(), {
    doc: "Class of the Ingress.",
    allowed: "the name of an IngressClass of the cluster",
    otherwise: "the cluster's default class",
    example: "nginx",
  }),
  tlsSecret: setting(dnsName.optional(), {
    doc: "Secret of the namespace with the certificate for `host`; cert-manager can make it.",
    allowed: "the name of a Secret of type kubernetes.io/tls",
    otherwise: "what the Ingress controller or the Gateway has",
    example: "llm-example-com",
  }),
  gatewayName: setting(
    z
      .string()
      .regex(/^([a-z0-9][-a-z0-9]*\/)?[a-z0-9][-a-z0-9.]*$/)
      .optional(),
    {
      doc: "The Gateway that `expose: gateway-api` attaches its route to.",
      allowed: "name, or namespace/name",
      otherwise: "there is none: `expose: gateway-api` needs it",
      example: "gateways/public",
    },
  ),
  allowNamespaces: setting(z.array(dnsLabel).default([]), {
    doc: "Other namespaces whose pods may connect: clients, and the one where the Ingress controller, the Gateway or Prometheus runs. Everybody else is kept out by a NetworkPolicy.",
    allowed: "a list of namespaces",
    otherwise: "pods of the stack's own namespace only",
    example: ["ingress-nginx"],
  }),
};

/** Settings of `target: kubernetes`. */
export const kubernetesSettings = z
  .strictObject({
    kubeconfig: setting(z.string().min(1).optional(), {
      doc: "The kubeconfig file. It is read at each run and its contents never get into the state.",
      allowed: "a path",
      otherwise: "$KUBECONFIG, else ~/.kube/config",
      example: "~/.kube/gpu-cluster",
    }),
    context: setting(z.string().min(1).optional(), {
      doc: "Context of the kubeconfig.",
      allowed: "a context's name",
      otherwise: "the current context",
      example: "my-cluster",
    }),
    namespace: setting(dnsLabel.default("tandem"), {
      doc: "Namespace that everything goes into.",
      allowed: "lower-case letters, digits and dashes",
      example: "tandem",
    }),
    createNamespace: setting(z.boolean().default(true), {
      doc: "Make the namespace, held to the restricted Pod Security standard, and delete it with all that is in it. `false` takes one that is there and leaves it.",
      allowed: "true or false",
      example: true,
    }),
    pods: setting(z.number().int().min(1).max(1024).default(1), {
      doc: "How many pods serve, each with the GPUs of `gpus` on one node and a whole copy of the model at least. A stack that trains has one.",
      allowed: "a whole number from 1",
      example: 2,
    }),
    storageClass: setting(dnsName.optional(), {
      doc: "Storage class of the volume for weights, adapters and environments; each pod has one.",
      allowed: "the name of a StorageClass of the cluster",
      otherwise: "the cluster's default class",
      example: "gp3",
    }),
    cacheSizeGiB: setting(z.union([z.literal("auto"), z.number().int().min(1).max(65_536)]).default("auto"), {
      doc: "Size of that volume. `auto` works it out from the weights, the trainer's checkpoints and the environments.",
      allowed: "auto, or a whole number of GiB",
      example: "auto",
    }),
    ...placement,
    ...exposure,
    gpuSharing: setting(z.enum(["auto", "dra", "single-container"]).default("auto"), {
      doc: "How vLLM and the trainer get at the same GPUs: two containers with one claim (Dynamic Resource Allocation, where the cluster has NVIDIA's DRA driver), or one container that runs both. `auto` takes the first where it works, and says which.",
      allowed: "auto, dra or single-container",
      example: "auto",
    }),
    operator: setting(z.enum(["detect", "install"]).default("detect"), {
      doc: "What to do about NVIDIA's GPU Operator: use what the cluster has, or install it by Helm where nothing hands out GPUs. A driver on the nodes is never replaced.",
      allowed: "detect or install",
      example: "detect",
    }),
    serviceMonitor: setting(z.boolean().default(false), {
      doc: "Have the Prometheus Operator collect the metrics.",
      allowed: "true or false",
      example: false,
    }),
    images: imageSettings,
  })
  .prefault({});
