import { setTimeout as sleep } from "node:timers/promises";
import type { V1Pod, V1StatefulSet } from "@kubernetes/client-node";
import { CLOCK_TOLERANCE_SECONDS } from "../../plan/run-tags";
import { answer, type ClusterClient } from "./client";
import { nodeFacts } from "./facts";
import { findTroubles, type Snapshot, type Trouble } from "./words";

export interface WaitRequest {
  readonly namespace: string;
  /** Name of the StatefulSet. */
  readonly name: string;
  readonly limitSeconds: number;
}

/** A stack in a cluster that does not come up, told for people. */
export class ClusterError extends Error {
  override readonly name = "ClusterError";
}

const POLL_SECONDS = 2;
/** What goes on is said again after so long, so that nobody takes silence for a hang. */
const REPEAT_SECONDS = 60;
/** A cluster that has answered before may give no answer for so long: its API server restarts, or the way to it does. */
const SILENCE_SECONDS = 120;

/**
 * Waits until every pod of the newest kind is ready. What keeps them is said while waiting, once for each new reason; what will not
 * change by itself ends the wait.
 * @throws ClusterError with the reasons
 */
export async function waitForPods(
  client: ClusterClient,
  request: WaitRequest,
  say: (line: string) => void,
): Promise<void> {
  const started = Date.now();
  const firstSeen = new Map<string, number>();
  const said = new Map<string, number>();
  let answeredAt: number | undefined;
  for (;;) {
    const seen = await look(client, request, started).catch((error: unknown) => {
      const isOver = Date.now() - started > request.limitSeconds * 1000;
      if (answeredAt === undefined || isOver || Date.now() - answeredAt > SILENCE_SECONDS * 1000) throw error;
    });
    if (seen === undefined) {
      await sleep(POLL_SECONDS * 1000);
      continue;
    }
    answeredAt = Date.now();
    const { set, snapshot } = seen;
    if (set !== undefined && isRolledOut(set)) return;
    const seconds = (Date.now() - started) / 1000;
    const troubles = findTroubles(snapshot);
    for (const trouble of troubles) if (!firstSeen.has(keyOf(trouble))) firstSeen.set(keyOf(trouble), seconds);
    // What went away and comes back starts anew.
    for (const key of firstSeen.keys()) if (!troubles.some((trouble) => keyOf(trouble) === key)) firstSeen.delete(key);
    for (const line of [...troubles.map(told), ...(troubles.length === 0 ? [progress(set, snapshot.pods)] : [])]) {
      if (seconds - (said.get(line) ?? -REPEAT_SECONDS) < REPEAT_SECONDS) continue;
      said.set(line, seconds);
      say(line);
    }
    const hopeless = troubles.filter(
      (trouble) => seconds - (firstSeen.get(keyOf(trouble)) ?? seconds) >= (trouble.hopelessAfterSeconds ?? Infinity),
    );
    if (hopeless.length > 0) throw failure("the pods do not come up", hopeless, request);
    if (seconds > request.limitSeconds) {
      throw failure(`the pods are not ready within ${request.limitSeconds} s`, troubles, request);
    }
    await sleep(POLL_SECONDS * 1000);
  }
}

async function look(
  client: ClusterClient,
  { namespace, name }: WaitRequest,
  started: number,
): Promise<{ set?: V1StatefulSet; snapshot: Snapshot }> {
  const labelSelector = `app.kubernetes.io/instance=${name}`;
  const [sets, pods, events, nodes, all] = await Promise.all([
    answer(client, client.apps.listNamespacedStatefulSet({ namespace, labelSelector })),
    answer(client, client.core.listNamespacedPod({ namespace, labelSelector })),
    answer(client, client.core.listNamespacedEvent({ namespace })),
    answer(client, client.core.listNode()),
    answer(client, client.core.listPodForAllNamespaces()),
  ]);
  return {
    set: sets.items.find(({ metadata }) => metadata?.name === name),
    snapshot: {
      pods: pods.items,
      events: since(events.items, started - CLOCK_TOLERANCE_SECONDS * 1000),
      nodes: nodes.items.map((node) => nodeFacts(node, all.items)),
    },
  };
}

/** Events stay for an hour: those of an earlier run would be told of this one's pods. */
function since<Event extends { lastTimestamp?: Date; eventTime?: Date }>(
  events: readonly Event[],
  oldest: number,
): Event[] {
  return events.filter(
    ({ lastTimestamp, eventTime }) => new Date(lastTimestamp ?? eventTime ?? Date.now()).getTime() > oldest,
  );
}

/** All pods are of the newest kind and ready, by the controller that looked at the newest wish. */
export function isRolledOut({ metadata, spec, status }: V1StatefulSet): boolean {
  const wanted = spec?.replicas ?? 1;
  return (
    (status?.observedGeneration ?? 0) >= (metadata?.generation ?? 0) &&
    (status?.updatedReplicas ?? 0) >= wanted &&
    (status?.readyReplicas ?? 0) >= wanted &&
    (status?.currentRevision === status?.updateRevision || (status?.updatedReplicas ?? 0) === wanted)
  );
}

function keyOf({ code, pod }: Trouble): string {
  return `${pod} ${code}`;
}

function told({ pod, text, cure }: Trouble): string {
  return `${pod}: ${text}${cure === undefined ? "" : ` — fix: ${cure}`}`;
}

/** Where the pods are when nothing is wrong. */
function progress(set: V1StatefulSet | undefined, pods: readonly V1Pod[]): string {
  const wanted = set?.spec?.replicas ?? 1;
  const ready = set?.status?.readyReplicas ?? 0;
  const now = pods.flatMap(({ metadata, status }) => {
    const running = [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])].find(
      ({ state, ready: isReady }) => state?.running !== undefined && !isReady,
    );
    return running === undefined ? [] : [`${metadata?.name ?? ""} is at ${running.name}`];
  });
  return `${ready} of ${wanted} pods ready${now.length === 0 ? "" : `: ${now.join(", ")}`}`;
}

function failure(what: string, troubles: readonly Trouble[], { namespace, name }: WaitRequest): ClusterError {
  const reasons = troubles.map((trouble) => `  - ${told(trouble)}`);
  const look = `  more: kubectl -n ${namespace} get pods,events -l app.kubernetes.io/instance=${name}`;
  return new ClusterError([`serving failed in namespace ${namespace}: ${what}`, ...reasons, look].join("\n"));
}
