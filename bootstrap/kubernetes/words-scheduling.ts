import type { V1Pod } from "@kubernetes/client-node";
import { GPU_RESOURCE, type ClusterNode, type NodeResources } from "../../plan/kubernetes-facts";
import { taintsInTheWay } from "../../plan/kubernetes-nodes";
import { podRequests } from "./facts";
import type { Snapshot, Trouble } from "./words";

/** No node takes the pod for so long, and no autoscaler is at work. */
const HOPELESS_SECONDS = 120;
const NEARLY = 3;

/** Which resource is missing, and which nodes nearly fit. */
export function unschedulable(
  pod: V1Pod,
  message: string,
  { events, nodes }: Pick<Snapshot, "events" | "nodes">,
): Trouble {
  const name = pod.metadata?.name ?? "";
  const scaling = events.some(
    ({ reason, involvedObject }) => reason === "TriggeredScaleUp" && involvedObject.name === name,
  );
  const hopeless = scaling ? {} : { hopelessAfterSeconds: HOPELESS_SECONDS };
  const reasons = reasonsOf(message, taintsOf(pod, nodes)).join("; ") || message;
  if (
    /unbound immediate PersistentVolumeClaims|find available persistent volumes|persistentvolumeclaim "/i.test(message)
  ) {
    const claims = (pod.spec?.volumes ?? []).map(({ persistentVolumeClaim }) => persistentVolumeClaim?.claimName);
    const event = events.find(
      ({ reason, involvedObject }) => reason === "ProvisioningFailed" && claims.includes(involvedObject.name),
    );
    return {
      code: "volume",
      pod: name,
      text: `its volume is not there yet${event?.message === undefined ? "" : `: ${event.message}`}`,
      cure: "kubectl get pvc, kubectl get storageclass; `kubernetes.storageClass` chooses another",
      ...hopeless,
    };
  }
  if (/cannot allocate all claims|resourceclaim|device class/i.test(message)) {
    return {
      code: "unschedulable",
      pod: name,
      text: `no node has the GPUs that its claim asks for: ${reasons}`,
      cure: "kubectl get resourceslices, kubectl get resourceclaims -A show what there is and who has it",
      ...hopeless,
    };
  }
  const near = nearNodes(nodes, podRequests(pod)).slice(0, NEARLY);
  return {
    code: "unschedulable",
    pod: name,
    text: [
      `no node takes it: ${reasons}`,
      ...(near.length === 0 ? [] : [`nearest: ${near.join("; ")}`]),
      ...(scaling ? ["the autoscaler is adding a node"] : []),
    ].join(". "),
    cure: message.includes(`Insufficient ${GPU_RESOURCE}`)
      ? "stop what uses the GPUs, set fewer `gpus`, or add a node"
      : "kubectl describe nodes; `kubernetes.tolerations` and `kubernetes.nodeSelector` say where pods may run",
    ...hopeless,
  };
}

/**
 * The scheduler's `0/5 nodes are available: 3 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint(s). preemption: …` in words.
 * Which taints these are it does not say any more (seen with Kubernetes 1.36): the nodes tell.
 * @param taints of nodes, which the pod does not tolerate
 */
export function reasonsOf(message: string, taints: readonly string[] = []): string[] {
  const [, list = ""] =
    /nodes are available: (.*?)(?:\. (?:preemption|no new claims|still not schedulable)|\.?$)/s.exec(message) ?? [];
  return list
    .split(/, (?=\d+ )/)
    .map((reason) => reason.trim().replace(/\.$/, ""))
    .flatMap((reason) => {
      const [, count, what] = /^(\d+) (?:node\(s\) )?(.*)$/s.exec(reason) ?? [];
      if (count === undefined || what === undefined) return [];
      const counted = `${count} node${count === "1" ? "" : "s"}`;
      const lacking = /^Insufficient (.+)$/.exec(what);
      if (lacking !== null) return [`${counted} with too little ${lacking[1]}`];
      const taint = /^had untolerated taint(?:\(s\)|s)?(?: \{(.+?)(?:: ?(.*?))?\})?/.exec(what);
      if (taint !== null) {
        const keys = taint[1] ?? taints.join(", ");
        return [`${counted} with a taint: ${keys === "" ? "see kubectl describe nodes" : keys}`];
      }
      if (/didn't match Pod's node affinity\/selector/.test(what))
        return [`${counted} without the labels that are asked for`];
      if (/were unschedulable/.test(what)) return [`${counted} cordoned`];
      if (/cannot allocate all claims/.test(what)) return [`${counted} with too few of them free`];
      if (/node affinity/.test(what)) return [`${counted} that can't reach the pod's volume`];
      return [`${counted}: ${what}`];
    });
}

/** Taints that keep the pod from some node. */
function taintsOf({ spec }: V1Pod, nodes: readonly ClusterNode[]): string[] {
  const keys = nodes.flatMap(({ taints }) => taintsInTheWay(taints, spec?.tolerations ?? []).map(({ key }) => key));
  // A cordoned node has a reason of its own.
  return [...new Set(keys)].filter((key) => key !== "node.kubernetes.io/unschedulable");
}

/** Nodes that lack one thing only, the one that lacks least first. */
function nearNodes(nodes: readonly ClusterNode[], wanted: NodeResources): string[] {
  const units = { gpus: "GPUs", cpuCores: "CPU cores", memoryGiB: "GiB of memory", diskGiB: "GiB of disk" } as const;
  const kinds = ["gpus", "cpuCores", "memoryGiB", "diskGiB"] as const;
  return nodes
    .filter(({ isReady, isUnschedulable }) => isReady && !isUnschedulable)
    .map((node) => {
      const lacks = kinds
        .map((kind) => ({ kind, free: node.allocatable[kind] - node.requested[kind] }))
        .filter(({ kind, free }) => wanted[kind] > free + 1e-9);
      return { node, lacks };
    })
    .filter(({ node, lacks }) => lacks.length === 1 && (wanted.gpus === 0 || node.allocatable.gpus > 0))
    .map(({ node, lacks: [lack] }) => {
      const kind = lack?.kind ?? "gpus";
      const free = Math.max(0, lack?.free ?? 0);
      const number = (value: number) => String(Math.round(value * 10) / 10);
      return {
        share: free / wanted[kind],
        text: `${node.name} has ${number(free)} of ${number(wanted[kind])} ${units[kind]} free (${number(node.allocatable[kind])} in all)`,
      };
    })
    .toSorted((left, right) => right.share - left.share)
    .map(({ text }) => text);
}
