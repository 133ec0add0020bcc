import type { CoreV1Event, V1ContainerStatus, V1Pod } from "@kubernetes/client-node";
import type { ClusterNode } from "../../plan/kubernetes-facts";
import { imageTrouble } from "./words-image";
import { unschedulable } from "./words-scheduling";

/** What the cluster says of a stack at one moment. */
export interface Snapshot {
  readonly pods: readonly V1Pod[];
  /** Events of the namespace. */
  readonly events: readonly CoreV1Event[];
  readonly nodes: readonly ClusterNode[];
}

/** Something that keeps a pod from serving, told for people. */
export interface Trouble {
  readonly code: string;
  readonly pod: string;
  readonly text: string;
  readonly cure?: string;
  /** After so many seconds of it nothing will change by itself; absent for what may. */
  readonly hopelessAfterSeconds?: number;
}

/** What keeps pods from serving, the worst first. Pure: the same objects give the same words. */
export function findTroubles(snapshot: Snapshot): Trouble[] {
  const troubles = [...notCreated(snapshot), ...snapshot.pods.flatMap((pod) => podTroubles(pod, snapshot))];
  const rank = ({ hopelessAfterSeconds = Number.MAX_SAFE_INTEGER }: Trouble) => hopelessAfterSeconds;
  return troubles.toSorted((left, right) => rank(left) - rank(right));
}

/** The controller can't even make the pod: a quota, the Pod Security standard, an admission webhook. */
function notCreated({ events, pods }: Snapshot): Trouble[] {
  if (pods.length > 0) return [];
  const event = latest(
    events,
    ({ reason, involvedObject }) => reason === "FailedCreate" && involvedObject.kind === "StatefulSet",
  );
  if (event === undefined) return [];
  const text = event.message ?? "";
  const name = event.involvedObject.name ?? "";
  const quota = /exceeded quota: (\S+), requested: (.+?), used: (.+?), limited: (.+)$/.exec(text);
  if (quota !== null) {
    return [
      {
        code: "quota",
        pod: name,
        text: `the namespace's quota ${quota[1]} leaves no room: asked for ${quota[2]}, used ${quota[3]}, allowed ${quota[4]}`,
        cure: "ask for a larger quota, or set fewer `gpus`",
        hopelessAfterSeconds: 10,
      },
    ];
  }
  const cure = /violates PodSecurity/.test(text)
    ? "the namespace's standard is stricter than restricted: choose another namespace"
    : "kubectl describe statefulset";
  return [
    { code: "not-created", pod: name, text: `the cluster refuses the pod: ${text}`, cure, hopelessAfterSeconds: 20 },
  ];
}

function podTroubles(pod: V1Pod, snapshot: Snapshot): Trouble[] {
  const name = pod.metadata?.name ?? "";
  const node = snapshot.nodes.find((candidate) => candidate.name === pod.spec?.nodeName);
  const scheduled = pod.status?.conditions?.find(({ type }) => type === "PodScheduled");
  if (scheduled?.status === "False") {
    return [unschedulable(pod, scheduled.message ?? "", snapshot)];
  }
  const gone = nodeGone(pod, node);
  if (gone !== undefined) return [gone];
  if (pod.status?.phase === "Failed") return [failedPod(pod)];
  const statuses = [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])];
  // A pod that was made anew has its name from the one before, and none of that one's troubles.
  const events = snapshot.events.filter(
    ({ involvedObject: { name: about, uid } }) => about === name && (uid === undefined || uid === pod.metadata?.uid),
  );
  return [
    ...statuses.flatMap((status) => containerTrouble(name, status, pod) ?? []),
    ...mountTrouble(name, statuses, events),
    ...statuses.flatMap((status) => probeTrouble(name, status, events) ?? []),
  ];
}

function nodeGone(pod: V1Pod, node: ClusterNode | undefined): Trouble | undefined {
  const name = pod.metadata?.name ?? "";
  const where = pod.spec?.nodeName;
  if (where === undefined) return undefined;
  const cure =
    "the pod moves when the node is deleted (kubectl delete node) or comes back; its volume may hold it there";
  if (node === undefined)
    return { code: "node-gone", pod: name, text: `its node ${where} is no longer in the cluster`, cure };
  if (!node.isReady) return { code: "node-gone", pod: name, text: `its node ${where} does not answer any more`, cure };
  return undefined;
}

function failedPod(pod: V1Pod): Trouble {
  const reason = pod.status?.reason ?? "Failed";
  const message = pod.status?.message ?? "";
  const name = pod.metadata?.name ?? "";
  if (reason === "Evicted") {
    return {
      code: "evicted",
      pod: name,
      text: `the node ${pod.spec?.nodeName ?? ""} put it out: ${message}`,
      cure: "give it a node with more memory or disk",
    };
  }
  return { code: "failed", pod: name, text: `${reason}: ${message}`, cure: `kubectl describe pod ${name}` };
}

function containerTrouble(pod: string, status: V1ContainerStatus, { spec }: V1Pod): Trouble | undefined {
  const waiting = status.state?.waiting;
  const image = imageTrouble(pod, status);
  if (image !== undefined) return image;
  if (waiting?.reason === "CreateContainerConfigError" || waiting?.reason === "CreateContainerError") {
    const text = `${status.name} can't be made: ${waiting.message ?? waiting.reason}`;
    return { code: "container-config", pod, text, cure: `kubectl describe pod ${pod}`, hopelessAfterSeconds: 60 };
  }
  const ended = status.state?.terminated ?? status.lastState?.terminated;
  if (ended === undefined || status.ready || (ended.exitCode === 0 && ended.reason !== "OOMKilled")) return undefined;
  // One that was started again is given its time to load.
  const isDown = status.state?.running === undefined;
  if (ended.reason === "OOMKilled") {
    const container = spec?.containers.find(({ name }) => name === status.name);
    const limit = container?.resources?.limits?.["memory"];
    return {
      code: "out-of-memory",
      pod,
      text: `${status.name} was killed because it took more memory than ${limit === undefined ? "its node has" : `its limit of ${limit}`}`,
      cure: "set a smaller `serving.maxModelLen` or `split`, or take nodes with more memory",
      ...((isDown || status.restartCount > 1) && { hopelessAfterSeconds: 0 }),
    };
  }
  const said = lastWords(ended.message);
  const times = status.restartCount > 0 ? `, ${status.restartCount} restart(s) so far` : "";
  return {
    code: "crashed",
    pod,
    text: `${status.name} ended with ${ended.exitCode}${times}${said === "" ? "" : `: ${said}`}`,
    cure: `kubectl logs ${pod} -c ${status.name} --previous`,
    // A crash may have been one; the same thing again and again will go on.
    ...(isDown && { hopelessAfterSeconds: status.restartCount > 1 ? 0 : 90 }),
    ...(status.restartCount > 2 && { hopelessAfterSeconds: 0 }),
  };
}

/** The line that says most: the last one with an error, else the last. */
function lastWords(message = ""): string {
  const lines = message
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  return (lines.findLast((line) => /error|fail|fix:|refused|cannot|can't/i.test(line)) ?? lines.at(-1) ?? "").slice(
    0,
    400,
  );
}

/** Volumes and networks of a pod whose containers all still wait. */
function mountTrouble(pod: string, statuses: readonly V1ContainerStatus[], events: readonly CoreV1Event[]): Trouble[] {
  if (statuses.some(({ state }) => state?.waiting === undefined)) return [];
  const event = latest(events, ({ reason = "" }) =>
    ["FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"].includes(reason),
  );
  if (event === undefined) return [];
  const text = `${event.reason === "FailedCreatePodSandBox" ? "the node can't start it" : "its volume can't be attached"}: ${event.message ?? ""}`;
  return [
    {
      code: event.reason === "FailedCreatePodSandBox" ? "sandbox" : "volume",
      pod,
      text,
      cure: `kubectl describe pod ${pod}`,
    },
  ];
}

/** A container that runs and is not up yet: what its probe says. Not wrong by itself: loading takes its time. */
function probeTrouble(pod: string, status: V1ContainerStatus, events: readonly CoreV1Event[]): Trouble | undefined {
  if (status.state?.running === undefined || status.ready) return undefined;
  const ofContainer = events.filter(
    ({ involvedObject }) => involvedObject.fieldPath?.endsWith(`{${status.name}}`) ?? true,
  );
  const killed = latest(
    ofContainer,
    ({ reason, message = "" }) => reason === "Killing" && message.includes("failed startup probe"),
  );
  if (killed !== undefined) {
    return {
      code: "startup-too-slow",
      pod,
      text: `${status.name} did not answer within its start-up budget and was started again`,
      cure: "set a longer `serving.startupTimeoutSeconds`; its log says what it was doing",
      hopelessAfterSeconds: 0,
    };
  }
  const unhealthy = (probe: RegExp) =>
    latest(ofContainer, ({ reason, message = "" }) => reason === "Unhealthy" && probe.test(message));
  if (
    ofContainer.some(({ reason, message = "" }) => reason === "Killing" && message.includes("failed liveness probe"))
  ) {
    return {
      code: "hung",
      pod,
      text: `${status.name} was started again: ${lastWords(unhealthy(/^Liveness probe failed:/)?.message)}`,
      cure: `kubectl logs ${pod} -c ${status.name} --previous`,
    };
  }
  // One that could not be run at all says nothing of the container: it was just ending.
  const event = unhealthy(/^(Startup|Readiness) probe failed:/);
  if (event === undefined) return undefined;
  const said = lastWords(event.message?.replace(/^.*? failed: ?/, ""));
  return { code: "loading", pod, text: `${status.name} runs and does not answer yet${said === "" ? "" : `: ${said}`}` };
}

function latest(events: readonly CoreV1Event[], is: (event: CoreV1Event) => boolean): CoreV1Event | undefined {
  const time = ({ lastTimestamp, eventTime, firstTimestamp }: CoreV1Event) =>
    new Date(lastTimestamp ?? eventTime ?? firstTimestamp ?? 0).getTime();
  return events.filter(is).toSorted((left, right) => time(right) - time(left))[0];
}
