import type { V1Node, V1Pod, V1ResourceSlice } from "@kubernetes/client-node";
import {
  GPU_DEVICE_CLASS,
  GPU_RESOURCE,
  type ClusterFacts,
  type ClusterNode,
  type NodeResources,
} from "../../plan/kubernetes-facts";
import { answer, answerOr, type ClusterClient } from "./client";
import { quantity, quantityGiB } from "./quantity";

type DraFacts = NonNullable<ClusterFacts["dra"]>;

/**
 * Asks the API server what the cluster is; changes nothing. What this user may not read counts as not there, except nodes.
 * @param stack whose own pods take nothing away from it; name of its objects
 * @throws ProblemsError when the cluster does not answer
 */
export async function readClusterFacts(
  client: ClusterClient,
  namespace: string,
  stack?: string,
): Promise<ClusterFacts> {
  const { config, core, library } = client;
  const { gitVersion } = await answer(client, config.makeApiClient(library.VersionApi).getCode());
  const storage = config.makeApiClient(library.StorageV1Api);
  const networking = config.makeApiClient(library.NetworkingV1Api);
  const none = { items: [] };
  const [nodes, pods, storageClasses, priorityClasses, runtimeClasses, ingressClasses, own, groups] = await Promise.all(
    [
      answer(client, core.listNode()),
      answerOr(core.listPodForAllNamespaces(), none),
      answerOr(storage.listStorageClass(), none),
      answerOr(config.makeApiClient(library.SchedulingV1Api).listPriorityClass(), none),
      answerOr(config.makeApiClient(library.NodeV1Api).listRuntimeClass(), none),
      answerOr(networking.listIngressClass(), none),
      answerOr(core.readNamespace({ name: namespace }), undefined),
      answer(client, config.makeApiClient(library.ApisApi).getAPIVersions()),
    ],
  );
  const served = new Set(groups.groups.flatMap(({ versions }) => versions.map(({ groupVersion }) => groupVersion)));
  const others = pods.items.filter(
    ({ metadata }) => metadata?.namespace !== namespace || metadata.labels?.["app.kubernetes.io/instance"] !== stack,
  );
  const isDefault = (kind: string, annotations: Record<string, string> = {}) =>
    annotations[`${kind}.kubernetes.io/is-default-class`] === "true";
  return {
    context: client.context,
    serverVersion: gitVersion,
    nodes: nodes.items.map((node) => nodeFacts(node, others)).toSorted((a, b) => a.name.localeCompare(b.name)),
    dra: await draFacts(client, served),
    gpuOperator: await operatorFacts(client, served),
    storageClasses: storageClasses.items.map(({ metadata }) => ({
      name: metadata?.name ?? "",
      isDefault: isDefault("storageclass", metadata?.annotations),
    })),
    priorityClasses: namesOf(priorityClasses.items),
    runtimeClasses: namesOf(runtimeClasses.items),
    ingressClasses: ingressClasses.items.map(({ metadata }) => ({
      name: metadata?.name ?? "",
      isDefault: isDefault("ingressclass", metadata?.annotations),
    })),
    hasHttpRoutes: served.has("gateway.networking.k8s.io/v1"),
    hasServiceMonitors: served.has("monitoring.coreos.com/v1"),
    ...(own !== undefined && {
      namespace: {
        labels: own.metadata?.labels ?? {},
        annotations: own.metadata?.annotations ?? {},
      },
    }),
  };
}

function namesOf(items: readonly { readonly metadata?: { readonly name?: string } }[]): string[] {
  return items.flatMap(({ metadata }) => metadata?.name ?? []);
}

/** A node with what the pods on it have asked for. */
export function nodeFacts(node: V1Node, pods: readonly V1Pod[]): ClusterNode {
  const name = node.metadata?.name ?? "";
  const here = pods.filter(({ spec, status }) => spec?.nodeName === name && !isOver(status?.phase));
  const requested = here.map(podRequests);
  return {
    name,
    labels: node.metadata?.labels ?? {},
    taints: (node.spec?.taints ?? []).map(({ key, value, effect }) => ({ key, value, effect })),
    isReady: node.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false,
    isUnschedulable: node.spec?.unschedulable ?? false,
    allocatable: resources(node.status?.allocatable ?? {}),
    requested: {
      gpus: sum(requested.map(({ gpus }) => gpus)),
      cpuCores: sum(requested.map(({ cpuCores }) => cpuCores)),
      memoryGiB: sum(requested.map(({ memoryGiB }) => memoryGiB)),
      diskGiB: sum(requested.map(({ diskGiB }) => diskGiB)),
    },
    kernel: node.status?.nodeInfo?.kernelVersion,
  };
}

function isOver(phase: string | undefined): boolean {
  return phase === "Succeeded" || phase === "Failed";
}

/** What a pod asks a node for: its containers together, or the largest init container where that is more. */
export function podRequests({ spec }: V1Pod): NodeResources {
  const of = (list: { resources?: { requests?: Record<string, string>; limits?: Record<string, string> } }[] = []) =>
    list.map((container) => resources({ ...container.resources?.limits, ...container.resources?.requests }));
  const together = of(spec?.containers);
  const before = of(spec?.initContainers);
  const most = (pick: (one: NodeResources) => number) => Math.max(sum(together.map(pick)), ...before.map(pick), 0);
  return {
    gpus: most(({ gpus }) => gpus),
    cpuCores: most(({ cpuCores }) => cpuCores),
    memoryGiB: most(({ memoryGiB }) => memoryGiB),
    diskGiB: most(({ diskGiB }) => diskGiB),
  };
}

function resources(list: Readonly<Record<string, string>>): NodeResources {
  return {
    gpus: quantity(list[GPU_RESOURCE]),
    cpuCores: quantity(list["cpu"]),
    memoryGiB: quantityGiB(list["memory"]),
    diskGiB: quantityGiB(list["ephemeral-storage"]),
  };
}

const DRA_VERSIONS = ["v1", "v1beta2", "v1beta1"] as const;

async function draFacts({ custom }: ClusterClient, served: ReadonlySet<string>): Promise<DraFacts | undefined> {
  const group = "resource.k8s.io";
  const apiVersion = DRA_VERSIONS.find((version) => served.has(`${group}/${version}`));
  if (apiVersion === undefined) return undefined;
  const list = async (plural: string) =>
    (await answerOr(custom.listClusterCustomObject({ group, version: apiVersion, plural }), { items: [] })) as {
      items: V1ResourceSlice[];
    };
  const [classes, slices] = await Promise.all([list("deviceclasses"), list("resourceslices")]);
  return { apiVersion, deviceClasses: namesOf(classes.items), slices: slices.items.map(sliceFacts) };
}

/** Attributes and capacities of NVIDIA's driver are named with or without its domain; v1beta1 has them one level deeper. */
export function sliceFacts({ spec }: V1ResourceSlice): DraFacts["slices"][number] {
  return {
    driver: spec.driver,
    node: spec.nodeName,
    devices: (spec.devices ?? []).map((device) => {
      const { attributes = {}, capacity = {} } = (device as { basic?: typeof device }).basic ?? device;
      const attribute = (name: string) => {
        const value = attributes[name] ?? attributes[`${GPU_DEVICE_CLASS}/${name}`];
        return value?.string ?? value?.version;
      };
      const memory = (capacity["memory"] ?? capacity[`${GPU_DEVICE_CLASS}/memory`])?.value;
      return {
        name: device.name,
        type: attribute("type"),
        productName: attribute("productName"),
        driverVersion: attribute("driverVersion"),
        ...(memory !== undefined && { memoryGiB: quantityGiB(memory) }),
      };
    }),
  };
}

interface ClusterPolicy {
  readonly metadata?: { readonly labels?: Readonly<Record<string, string>> };
  readonly spec?: { readonly driver?: { readonly enabled?: boolean } };
  readonly status?: { readonly state?: string };
}

async function operatorFacts(
  { custom }: ClusterClient,
  served: ReadonlySet<string>,
): Promise<ClusterFacts["gpuOperator"]> {
  if (!served.has("nvidia.com/v1")) return {};
  const policies = custom.listClusterCustomObject({ group: "nvidia.com", version: "v1", plural: "clusterpolicies" });
  const { items } = (await answerOr(policies, { items: [] })) as { items: ClusterPolicy[] };
  const [policy] = items;
  if (policy === undefined) return {};
  return {
    policyState: policy.status?.state ?? "notReady",
    version: policy.metadata?.labels?.["app.kubernetes.io/version"],
    managesDriver: policy.spec?.driver?.enabled ?? true,
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
