import { proveGone, type ClusterHold } from "./gone";
import { proveCluster, type ClusterStepRequest } from "./prove";

/**
 * What `tandem-runner` does for a stack in a cluster: takes note of its start, proves it, and proves that nothing of it is left.
 * @param request as JSON made it; of the kind that the verb takes
 */
export async function clusterStep(
  verb: "cluster-hold" | "cluster-proof" | "cluster-gone",
  request: unknown,
  say: (line: string) => void,
): Promise<unknown> {
  switch (verb) {
    case "cluster-hold":
      return { createdAt: new Date().toISOString() };
    case "cluster-proof":
      return proveCluster(request as ClusterStepRequest, say);
    case "cluster-gone":
      await proveGone(request as ClusterHold, say);
      return {};
    default:
      return verb satisfies never;
  }
}
