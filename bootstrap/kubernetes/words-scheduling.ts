import { GPU_RESOURCE, type ClusterNode, type NodeResources } from "../../plan/kubernetes-facts";
import type { Snapshot, Trouble } from "./words";

/** No node takes the pod for so long, and no autoscaler is at work. */
const HOPELESS_SECONDS = 120;
const NEARLY = 3;

/** Which resource is missing, and which nodes nearly fit. */
export function unschedulable(pod: string, message: string, wanted: NodeResources, snapshot: Snapshot): Trouble {
  const scaling = snapshot.events.some(
    ({ reason, involvedObject }) => reason === "TriggeredScaleUp" && involvedObject.name === pod,
  );
  const hopeless = scaling ? {} : { hopelessAfterSeconds: HOPELESS_SECONDS };
  if (/unbound immediate PersistentVolumeClaims|didn't find available persistent volumes/i.test(message)) {
    const event = snapshot.events.find(({ reason = "" }) => reason === "ProvisioningFailed");
    return {
      code: "volume",
      pod,
      text: `its volume is not there yet${event?.message === undefined ? "" : `: ${event.message}`}`,
      cure: "kubectl get pvc, kubectl get storageclass; `kubernetes.storageClass` chooses another",
      ...hopeless,
    };
  }
  if (/cannot allocate all claims|resourceclaim|device class/i.test(message)) {
    return {
      code: "unschedulable",
      pod,
      text: `no node has the GPUs that its claim asks for: ${message}`,
      cure: "kubectl get resourceslices, kubectl get resourceclaims -A show what there is and who has it",
      ...hopeless,
    };
  }
  const near = nearNodes(snapshot.nodes, wanted).slice(0, NEARLY);
  const reasons = reasonsOf(message);
  return {
    code: "unschedulable",
    pod,
    text: [
      `no node takes it: ${reasons.length === 0 ? message : reasons.join("; ")}`,
      ...(near.length === 0 ? [] : [`nearest: ${near.join("; ")}`]),
      ...(scaling ? ["the autoscaler is adding a node"] : []),
    ].join(". "),
    cure: message.includes(`Insufficient ${GPU_RESOURCE}`)
      ? "stop what uses the GPUs, set fewer `gpus`, or add a node"
      : "kubectl describe nodes; `kubernetes.tolerations` and `kubernetes.nodeSelector` say where pods may run",
    ...hopeless,
  };
}

/** The scheduler's `0/5 nodes are available: 3 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint {a: b}. preemption: …` in words. */
export function reasonsOf(message: string): string[] {
  const [, list = ""] = /nodes are available: (.*?)(?:\. (?:preemption|no new claims)|\.?$)/s.exec(message) ?? [];
  return list
    .split(/, (?=\d+ )/)
    .map((reason) => reason.trim().replace(/\.$/, ""))
    .flatMap((reason) => {
      const [, count, what] = /^(\d+) (?:node\(s\) )?(.*)$/s.exec(reason) ?? [];
      if (count === undefined || what === undefined) return [];
      const nodes = `${count} node${count === "1" ? "" : "s"}`;
      const lacking = /^Insufficient (.+)$/.exec(what);
      if (lacking !== null) return [`${nodes} with too little ${lacking[1]}`];
      const taint = /^had untolerated taint(?:\(s\)|s)?(?: \{(.+?)(?:: ?(.*?))?\})?/.exec(what);
      if (taint !== null) return [`${nodes} with the taint ${taint[1] ?? "(see kubectl describe nodes)"}`];
      if (/didn't match Pod's node affinity\/selector/.test(what))
        return [`${nodes} without the labels that are asked for`];
      if (/were unschedulable/.test(what)) return [`${nodes} cordoned`];
      if (/volume node affinity/.test(what)) return [`${nodes} that can't reach the pod's volume`];
      return [`${nodes}: ${what}`];
    });
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
