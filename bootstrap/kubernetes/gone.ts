import type { V1Namespace, V1ObjectMeta } from "@kubernetes/client-node";
import { readNamespaceTags } from "../../plan/kubernetes-names";
import { judgeExpiry } from "../../plan/run-tags";
import { answer, answerOr, codeOf, openCluster, type ClusterClient, type ClusterTarget } from "./client";
import { ClusterError } from "./wait";

/** What a stack holds in a cluster; `tandem-runner` gets it when the stack is destroyed. */
export interface ClusterHold {
  readonly target: ClusterTarget;
  readonly namespace: string;
  /** Name of the stack's objects. */
  readonly name: string;
  /** Whether the namespace is the stack's own. */
  readonly ownsNamespace: boolean;
  /** Whether volumes stay on purpose. */
  readonly keepsVolumes: boolean;
}

/** Pods get their grace period, and volumes are let go after them. */
const GONE_SECONDS = 300;
const POLL_SECONDS = 2;

/**
 * Proves that nothing of a stack is left, after all its objects were deleted; waits for what is still going.
 * @throws ClusterError naming each thing that stays
 */
export async function proveGone(
  hold: ClusterHold,
  say: (line: string) => void,
  limitSeconds = GONE_SECONDS,
): Promise<void> {
  const client = await openCluster(hold.target);
  const deadline = Date.now() + limitSeconds * 1000;
  let before = "";
  for (;;) {
    const left = await whatIsLeft(client, hold);
    if (left.length === 0) return;
    const text = left.join(", ");
    if (text !== before) say(`waiting for the end of ${text}`);
    before = text;
    if (Date.now() > deadline) {
      throw new ClusterError(
        `not everything is gone from namespace ${hold.namespace} after ${limitSeconds} s: ${text} — fix: kubectl -n ${hold.namespace} describe them; a finalizer may hold them`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_SECONDS * 1000));
  }
}

/** Kinds and names of everything with the stack's label, and the namespace and the volumes behind its claims. */
async function whatIsLeft(client: ClusterClient, hold: ClusterHold): Promise<string[]> {
  const { namespace, name, ownsNamespace, keepsVolumes } = hold;
  const { core, apps } = client;
  const space = await answerOr(answer(client, readNamespace(client, namespace)), undefined);
  const volumes = keepsVolumes ? [] : await volumesOf(client, hold);
  if (space === undefined) return volumes;
  if (ownsNamespace) return [`namespace ${namespace}${remaining(space)}`, ...volumes];
  const one = { namespace, labelSelector: `app.kubernetes.io/instance=${name}` };
  const named = (kind: string, items: readonly { readonly metadata?: V1ObjectMeta }[]) =>
    items.map(({ metadata }) => `${kind} ${metadata?.name ?? ""}`);
  const [pods, sets, services, configs, secrets, claims] = await Promise.all([
    answer(client, core.listNamespacedPod(one)),
    answer(client, apps.listNamespacedStatefulSet(one)),
    answer(client, core.listNamespacedService(one)),
    answer(client, core.listNamespacedConfigMap(one)),
    answer(client, core.listNamespacedSecret(one)),
    answer(client, core.listNamespacedPersistentVolumeClaim(one)),
  ]);
  return [
    ...named("pod", pods.items),
    ...named("statefulset", sets.items),
    ...named("service", services.items),
    ...named("configmap", configs.items),
    ...named("secret", secrets.items),
    ...(keepsVolumes ? [] : named("persistentvolumeclaim", claims.items)),
    ...volumes,
  ];
}

/** What the API server still has in a namespace that it deletes, in its own words. */
function remaining({ status }: V1Namespace): string {
  const texts = (status?.conditions ?? []).flatMap((condition) => {
    return condition.status === "True" && condition.message !== undefined ? [condition.message] : [];
  });
  return texts.length === 0 ? "" : ` (${texts.join("; ")})`;
}

async function readNamespace({ core }: ClusterClient, name: string) {
  try {
    return await core.readNamespace({ name });
  } catch (error) {
    if (codeOf(error) === 404) return undefined;
    throw error;
  }
}

/** Volumes whose claims were the stack's; who may not read volumes can't tell, and the claims have to do. */
async function volumesOf({ core }: ClusterClient, { namespace, name }: ClusterHold): Promise<string[]> {
  const { items } = await answerOr(core.listPersistentVolume(), { items: [] });
  return items
    .filter(
      ({ spec }) =>
        spec?.claimRef?.namespace === namespace &&
        spec.claimRef.name?.startsWith(`cache-${name}-`) === true &&
        spec.persistentVolumeReclaimPolicy !== "Retain",
    )
    .map(({ metadata }) => `persistentvolume ${metadata?.name ?? ""}`);
}

/** A namespace of Tandem's in the cluster, for `tandem reap` and `destroy`. */
export interface OwnNamespace {
  readonly name: string;
  readonly stack: string;
  readonly runId: string;
  /** Undefined for one that lives until it is destroyed. */
  readonly expiresAt?: Date;
  readonly isExpired: boolean;
}

/**
 * All namespaces that carry Tandem's marks, whatever any state says. Those whose marks are damaged are told of and never touched.
 * @param now the cluster's own time where it is known
 */
export async function ownNamespaces(
  client: ClusterClient,
  now: Date,
): Promise<{ readonly own: readonly OwnNamespace[]; readonly damaged: readonly string[] }> {
  const labelSelector = "app.kubernetes.io/managed-by=tandem";
  const { items } = await answer(client, client.core.listNamespace({ labelSelector }));
  const own: OwnNamespace[] = [];
  const damaged: string[] = [];
  for (const { metadata } of items) {
    const reading = readNamespaceTags(metadata?.annotations);
    const name = metadata?.name ?? "";
    if (reading.kind === "damaged") damaged.push(`${name}: ${reading.reason}`);
    if (reading.kind !== "ours") continue;
    const { stack, runId, expiresAt } = reading.mark;
    const made = metadata?.creationTimestamp;
    const isExpired =
      judgeExpiry(reading.mark, now, made === undefined ? undefined : new Date(made)).kind === "expired";
    own.push({ name, stack, runId, expiresAt, isExpired });
  }
  return { own, damaged };
}

/** Deletes a namespace with all that is in it and waits for its end; succeeds when it is not there. @throws ClusterError when something stays */
export async function deleteNamespace(
  target: ClusterTarget,
  namespace: string,
  say: (line: string) => void,
): Promise<void> {
  const client = await openCluster(target);
  await answerOr(client.core.deleteNamespace({ name: namespace }), undefined);
  await proveGone({ target, namespace, name: "", ownsNamespace: true, keepsVolumes: false }, say);
}
