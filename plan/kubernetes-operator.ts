import { findGpuType } from "./gpu-types";
import type { ClusterFacts } from "./kubernetes-facts";
import { admits, type Candidate } from "./kubernetes-nodes";
import type { ClusterChoice } from "./kubernetes-verdicts";
import type { Settings } from "./settings";

/**
 * What is planned for where the GPU Operator is to be installed first: nothing hands out GPUs yet and no label tells of them, so
 * the settings have to. Undefined where nothing is to be installed.
 */
export function operatorChoice(facts: ClusterFacts, settings: Settings): ClusterChoice | undefined {
  if (settings.kubernetes.operator !== "install" || facts.gpuOperator.policyState !== undefined) return undefined;
  const type = settings.gpuType === undefined ? undefined : findGpuType(settings.gpuType);
  const { gpus } = settings;
  if (type === undefined || gpus === "all" || gpus === 0) {
    const text = "nothing tells which GPUs the nodes have before the GPU Operator is there";
    const cure = "set `gpuType` and `gpus`";
    return { verdicts: [{ code: "no-gpu", level: "fail", text, cure, setting: "gpuType" }], gpus: 0 };
  }
  const admitted = facts.nodes.filter((node) => admits(node, settings));
  // Node feature discovery's label for NVIDIA's cards, where it runs already.
  const node =
    admitted.find(({ labels }) => labels["feature.node.kubernetes.io/pci-10de.present"] === "true") ?? admitted[0];
  if (node === undefined) return undefined;
  const chosen: Candidate = {
    node,
    gpus: {
      count: gpus,
      product: type.model,
      memoryGiB: type.memoryGiB,
      computeCapability: type.computeCapability,
      sharedBy: 1,
      kind: "whole",
      by: ["device-plugin"],
    },
  };
  const text = `the GPU Operator is installed first; that ${node.name} has ${gpus} × ${type.model} is taken from the settings`;
  return { verdicts: [{ code: "gpu-operator", level: "warn", text }], chosen, gpus, installsOperator: true };
}
