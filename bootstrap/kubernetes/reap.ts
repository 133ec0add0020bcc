import { openCluster, type ClusterTarget } from "./client";
import { deleteNamespace, ownNamespaces } from "./gone";

export interface ClusterReapRequest {
  readonly target: ClusterTarget;
  readonly dryRun: boolean;
  /** Only namespaces that have been over for so long. */
  readonly olderThanSeconds: number;
  readonly onLine: (line: string) => void;
}

export interface ClusterReapResult {
  readonly context: string;
  readonly removed: readonly string[];
  /** Expired and still there: with a dry run those that would be deleted. */
  readonly left: readonly string[];
  /** Marked as Tandem's, and the marks make no sense: nobody may delete them by those. */
  readonly unclear: readonly string[];
  /** How many are not over, or have no end. */
  readonly live: number;
}

/**
 * Deletes the namespaces of expired runs, by their marks alone: no state, no settings. One that stays does not stop the others.
 * @throws ProblemsError when the cluster can't be asked
 */
export async function reapCluster(request: ClusterReapRequest): Promise<ClusterReapResult> {
  const { target, dryRun, olderThanSeconds, onLine } = request;
  const client = await openCluster(target);
  const now = new Date(Date.now() - olderThanSeconds * 1000);
  const { own, damaged } = await ownNamespaces(client, now);
  const over = own.filter(({ isExpired }) => isExpired);
  const removed: string[] = [];
  const left: string[] = [];
  for (const { name, stack, expiresAt } of over) {
    const what = `namespace ${name} of stack ${stack}, over since ${expiresAt?.toISOString() ?? ""}`;
    onLine(dryRun ? `would delete ${what}` : `deleting ${what}`);
    if (dryRun) {
      left.push(name);
      continue;
    }
    try {
      await deleteNamespace(target, name, onLine);
      removed.push(name);
    } catch (error) {
      onLine(error instanceof Error ? error.message : String(error));
      left.push(name);
    }
  }
  for (const line of damaged) onLine(`left alone: ${line}`);
  return { context: client.context, removed, left, unclear: damaged, live: own.length - over.length };
}
