import { CUDA_13_DRIVER_BRANCH } from "./driver";
import { GPU_DEVICE_CLASS, GPU_RESOURCE, type ClusterFacts } from "./kubernetes-facts";
import { candidateNodes, nodeGpus, untoleratedTaints, type Candidate } from "./kubernetes-nodes";
import { operatorChoice } from "./kubernetes-operator";
import { clusterNeeds } from "./kubernetes-needs";
import type { Problem } from "./problem";
import type { Settings } from "./settings";

/**
 * One judgement of a cluster, in the form of `bootstrap/host/driver-verdict.sh`. Codes are a contract:
 *   no-node no-gpu gpus gpus-too-few gpus-busy gpus-shared gpus-mig gpu-memory-unknown gpu-operator gpu-operator-not-ready
 *   gpu-driver driver driver-too-old driver-unknown dra and those of kubernetes-needs.ts
 */
export interface Verdict {
  readonly code: string;
  readonly level: "ok" | "warn" | "fail";
  readonly text: string;
  readonly cure?: string;
  /** Setting that the cure is about. */
  readonly setting?: string;
}

export interface ClusterChoice {
  readonly verdicts: readonly Verdict[];
  /** The node that the plan is made for; undefined where no pod could run. */
  readonly chosen?: Candidate;
  /** GPUs of a pod; 0 serves on the CPU. */
  readonly gpus: number;
  /** Whether the GPU Operator comes first. */
  readonly installsOperator?: true;
}

/** Judges a cluster and chooses the kind of node that pods are planned for; the scheduler then takes any node of that kind. */
export function judgeCluster(facts: ClusterFacts, settings: Settings): ClusterChoice {
  const needs = clusterNeeds(facts, settings);
  const candidates = candidateNodes(facts, settings);
  const installed = hasAnyGpu(facts) ? undefined : operatorChoice(facts, settings);
  if (installed !== undefined) return { ...installed, verdicts: [...installed.verdicts, ...needs] };
  if (candidates.length === 0) return { verdicts: [noNode(facts, settings), ...needs], gpus: 0 };
  const withGpus = candidates.filter(({ gpus }) => gpus !== undefined);
  if (settings.gpus === 0 || (settings.gpus === "all" && withGpus.length === 0 && !hasAnyGpu(facts))) {
    const [largest] = candidates.toSorted(
      (left, right) => right.node.allocatable.memoryGiB - left.node.allocatable.memoryGiB,
    );
    return { verdicts: needs, chosen: largest, gpus: 0 };
  }
  const operator = operatorVerdicts(facts, settings);
  const usable = withGpus.filter(({ gpus }) => gpus?.kind === "whole" && gpus.sharedBy === 1 && gpus.count > 0);
  if (usable.length === 0) return { verdicts: [...withoutWholeGpus(withGpus, facts), ...operator, ...needs], gpus: 0 };
  const wanted = settings.gpus === "all" ? (usable[0]?.gpus?.count ?? 1) : settings.gpus;
  const enough = usable.filter(({ gpus }) => (gpus?.count ?? 0) >= wanted);
  const [chosen] = enough;
  if (chosen === undefined) return { verdicts: [tooFew(usable, wanted), ...operator, ...needs], gpus: 0 };
  return {
    verdicts: [...gpuVerdicts(chosen, enough, wanted, settings), ...operator, ...draVerdicts(facts), ...needs],
    chosen,
    gpus: wanted,
  };
}

/** What a user has to change before anything is made. */
export function clusterProblems(verdicts: readonly Verdict[]): Problem[] {
  return verdicts
    .filter(({ level }) => level === "fail")
    .map(({ text, cure, setting = "kubernetes" }) => ({
      setting,
      what: text,
      ...(cure !== undefined && { fix: cure }),
    }));
}

function hasAnyGpu(facts: ClusterFacts): boolean {
  return facts.nodes.some((node) => nodeGpus(node, facts) !== undefined);
}

/** Says of up to three nodes why no pod may run there. */
function noNode(facts: ClusterFacts, settings: Settings): Verdict {
  const why = facts.nodes.slice(0, 3).map((node) => {
    const [taint] = untoleratedTaints(node, settings);
    if (!node.isReady) return `${node.name} is not ready`;
    if (node.isUnschedulable) return `${node.name} is cordoned`;
    if (taint !== undefined) return `${node.name} has the taint ${taint.key}`;
    return `${node.name} lacks what nodeSelector or gpuType asks for`;
  });
  const more = facts.nodes.length > 3 ? `, and ${facts.nodes.length - 3} more` : "";
  return {
    code: "no-node",
    level: "fail",
    text: `no node of the cluster may run the pods: ${why.join("; ") || "it has no nodes"}${more}`,
    cure: "change `kubernetes.nodeSelector` or `kubernetes.tolerations`, or add nodes",
    setting: "kubernetes.nodeSelector",
  };
}

function withoutWholeGpus(withGpus: readonly Candidate[], facts: ClusterFacts): Verdict[] {
  const shared = withGpus.find(({ gpus }) => (gpus?.sharedBy ?? 1) > 1);
  const mig = withGpus.find(({ gpus }) => gpus?.kind === "mig");
  const silent = withGpus.find(({ gpus }) => gpus?.by.length === 0);
  if (shared !== undefined) {
    return [
      {
        code: "gpus-shared",
        level: "fail",
        text: `the device plugin hands out each GPU of ${shared.node.name} ${shared.gpus?.sharedBy ?? 2} times: nobody's memory is safe there`,
        cure: "switch time slicing off on the nodes that serve",
      },
    ];
  }
  if (mig !== undefined) {
    return [
      {
        code: "gpus-mig",
        level: "fail",
        text: `${mig.node.name} hands out parts of GPUs (MIG), and tensor parallelism needs whole ones`,
        cure: "set the node's MIG configuration to all-disabled (label nvidia.com/mig.config)",
      },
    ];
  }
  if (silent !== undefined) {
    return [
      {
        code: "no-gpu",
        level: "fail",
        text: `${silent.node.name} has ${silent.node.labels["nvidia.com/gpu.count"] ?? "some"} GPUs and none of them is handed out: neither the device plugin nor NVIDIA's DRA driver offers ${GPU_RESOURCE}`,
        cure: "look at the pods of the GPU Operator's device plugin on that node",
      },
    ];
  }
  const text = hasAnyGpu(facts)
    ? "no node with GPUs may run the pods"
    : `no node of the cluster offers ${GPU_RESOURCE} or a device of ${GPU_DEVICE_CLASS}`;
  const cure = hasAnyGpu(facts)
    ? "change `kubernetes.tolerations` or `kubernetes.nodeSelector`"
    : "install the GPU Operator (`kubernetes.operator: install`) on nodes that have GPUs, or set `gpus` to 0";
  return [{ code: "no-gpu", level: "fail", text, cure, setting: "gpus" }];
}

function tooFew(usable: readonly Candidate[], wanted: number): Verdict {
  const most = Math.max(...usable.map(({ gpus }) => gpus?.count ?? 0));
  const where = usable.filter(({ gpus }) => gpus?.count === most).map(({ node }) => node.name);
  return {
    code: "gpus-too-few",
    level: "fail",
    text: `no node has ${wanted} GPUs; ${where.slice(0, 3).join(", ")} has ${most}`,
    cure: `set \`gpus\` to ${most}; \`kubernetes.pods\` makes copies on several nodes`,
    setting: "gpus",
  };
}

function gpuVerdicts(chosen: Candidate, enough: readonly Candidate[], wanted: number, settings: Settings): Verdict[] {
  const gpus = chosen.gpus;
  if (gpus === undefined) return [];
  const free = enough.filter(
    ({ node, gpus: has }) =>
      (has?.by.includes("dra") ?? false) || node.allocatable.gpus - node.requested.gpus >= wanted,
  );
  const verdicts: Verdict[] = [
    {
      code: "gpus",
      level: "ok",
      text: `${enough.length} node(s) have ${wanted} GPUs or more, such as ${chosen.node.name} with ${gpus.count} × ${gpus.product}`,
    },
  ];
  if (gpus.memoryGiB === undefined) {
    verdicts.push({
      code: "gpu-memory-unknown",
      level: "fail",
      text: `nothing says how much memory the GPUs of ${chosen.node.name} (${gpus.product}) have`,
      cure: "run GPU feature discovery (the GPU Operator brings it), which labels nodes with nvidia.com/gpu.memory",
    });
  }
  if (free.length < settings.kubernetes.pods) {
    verdicts.push({
      code: "gpus-busy",
      level: "warn",
      text: `${free.length} of the ${settings.kubernetes.pods} pods' nodes have ${wanted} GPUs free just now; the others' pods will wait`,
      cure: "stop what uses them, or let the cluster's autoscaler add a node",
    });
  }
  return [...verdicts, driverVerdict(chosen)];
}

function driverVerdict({ node, gpus }: Candidate): Verdict {
  const version = gpus?.driverVersion;
  if (version === undefined) {
    return {
      code: "driver-unknown",
      level: "warn",
      text: `nothing says which driver ${node.name} has; images for CUDA 13 need ${CUDA_13_DRIVER_BRANCH} or newer`,
      cure: "run GPU feature discovery, which labels nodes with the driver's version",
    };
  }
  if (Number.parseInt(version, 10) < CUDA_13_DRIVER_BRANCH) {
    return {
      code: "driver-too-old",
      level: "fail",
      text: `the driver ${version} of ${node.name} is too old for images of CUDA 13`,
      cure: `bring the nodes to a driver of branch ${CUDA_13_DRIVER_BRANCH} or newer: driver.version of the GPU Operator, or a newer node image`,
    };
  }
  return { code: "driver", level: "ok", text: `driver ${version}` };
}

function operatorVerdicts({ gpuOperator, nodes }: ClusterFacts, { kubernetes }: Settings): Verdict[] {
  const { policyState, version, managesDriver } = gpuOperator;
  if (policyState === undefined) {
    const text = "no GPU Operator: the device plugin and the driver are somebody else's";
    return kubernetes.operator === "install" ? [] : [{ code: "gpu-operator", level: "ok", text }];
  }
  const own = nodes.filter(({ labels }) => labels["nvidia.com/gpu.deploy.driver"] === "pre-installed");
  const driver: Verdict[] =
    managesDriver === true && own.length > 0
      ? [
          {
            code: "gpu-driver",
            level: "ok",
            text: `${own.length} node(s) bring their driver with their image; the operator leaves those alone`,
          },
        ]
      : [];
  if (policyState === "ready") {
    return [
      { code: "gpu-operator", level: "ok", text: `GPU Operator ${version ?? ""} is ready`.replace("  ", " ") },
      ...driver,
    ];
  }
  return [
    {
      code: "gpu-operator-not-ready",
      level: "warn",
      text: `the GPU Operator says ${policyState}: some nodes may hand out no GPUs yet`,
      cure: "kubectl get pods -A -l app.kubernetes.io/managed-by=gpu-operator",
    },
    ...driver,
  ];
}

function draVerdicts({ dra }: ClusterFacts): Verdict[] {
  if (dra === undefined || !dra.deviceClasses.includes(GPU_DEVICE_CLASS)) return [];
  return [
    { code: "dra", level: "ok", text: `NVIDIA's DRA driver offers whole GPUs (DeviceClass ${GPU_DEVICE_CLASS})` },
  ];
}
