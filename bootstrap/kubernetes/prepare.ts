import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import { join } from "node:path";
import type { ClusterFacts } from "../../plan/kubernetes-facts";
import { kubernetesManifests, type ClusterManifests } from "../../plan/kubernetes-manifests";
import { objectName, readNamespaceTags } from "../../plan/kubernetes-names";
import { hostOfNode, type Candidate } from "../../plan/kubernetes-nodes";
import { planCluster } from "../../plan/kubernetes-prepare";
import type { GpuSharing } from "../../plan/kubernetes-sharing";
import type { Plan } from "../../plan/plan";
import { ProblemsError } from "../../plan/problem";
import type { RunMark } from "../../plan/run-tags";
import type { Settings } from "../../plan/settings";
import { askHub } from "../runner/hub";
import { findShape, modelSource, requireWeights } from "../runner/model";
import { hostScriptsDirectory, packageRoot, trainerDirectory } from "../runner/package-root";
import { answerOr, openCluster, type ClusterClient, type ClusterTarget } from "./client";
import { readClusterFacts } from "./facts";
import { isRolledOut } from "./wait";

/** What is going to be in a cluster. */
export interface ClusterPrepared {
  readonly target: ClusterTarget;
  readonly context: string;
  /** Name of the stack's objects. */
  readonly name: string;
  readonly plan: Plan;
  readonly facts: ClusterFacts;
  readonly chosen: Candidate;
  readonly sharing: GpuSharing;
  readonly manifests: ClusterManifests;
  readonly mark?: RunMark;
  readonly installsOperator: boolean;
  /** Why the proof is due though nothing was changed; absent when the pods are as they were proven. */
  readonly proofReason?: string;
}

/**
 * Asks the cluster what it is and plans for it; changes nothing.
 * @param stack the stack's name
 * @throws ProblemsError with everything that is in the way
 */
export async function prepareCluster(
  settings: Settings,
  stack: string,
): Promise<{ readonly settings: Settings; readonly cluster: ClusterPrepared }> {
  const { kubeconfig, context, namespace } = settings.kubernetes;
  const target: ClusterTarget = { kubeconfig, context };
  const client = await openCluster(target);
  const name = objectName(stack);
  const facts = await readClusterFacts(client, namespace, name);
  const shape = await findShape(settings);
  const planned = planCluster(facts, shape, settings);
  if (planned.plan === undefined) {
    const works = planned.alternatives.map(({ text }) => `\n  works: ${text}`).join("");
    throw new ProblemsError(planned.problems, "The plan does not fit", works);
  }
  if (facts.namespace === undefined) await refuseMissingModel(planned.settings);
  const mark = settings.kubernetes.createNamespace ? markOf(facts, planned.plan, stack) : undefined;
  const { plan, chosen, sharing, installsOperator } = planned;
  const proofReason = await whyProveAgain(client, namespace, name);
  const request = { name, settings: planned.settings, plan, facts, chosen, sharing, mark };
  const manifests = kubernetesManifests({ ...request, files: podFiles() });
  return {
    settings: planned.settings,
    cluster: { ...request, target, context: client.context, manifests, installsOperator, proofReason },
  };
}

/** Pods that were proven and are not ready now. A stack that is not there yet is proven in any case. */
async function whyProveAgain({ apps }: ClusterClient, namespace: string, name: string): Promise<string | undefined> {
  const set = await answerOr(apps.readNamespacedStatefulSet({ namespace, name }), undefined);
  return set === undefined || isRolledOut(set) ? undefined : "the pods are not ready";
}

/** A gated model or a wrong name fails here, not in a pod. That this machine does not reach the hub says nothing of the cluster. */
async function refuseMissingModel(settings: Settings): Promise<void> {
  if (modelSource(settings.model).kind !== "hub") return;
  const { kind } = await askHub(settings.model, settings.revision, settings.hubToken, 5);
  if (kind === "gated" || kind === "missing") await requireWeights(settings);
}

/** The mark of a namespace that is there stays as it was made: a second run changes nothing. */
function markOf({ namespace }: ClusterFacts, plan: Plan, stack: string): RunMark {
  const known = readNamespaceTags(namespace?.annotations);
  if (known.kind === "ours") return known.mark;
  const createdAt = new Date(Math.floor(Date.now() / 1000) * 1000);
  const { ttlSeconds } = plan.cost;
  return {
    runId: `run-${randomBytes(6).toString("hex")}`,
    stack,
    owner: `${userInfo().username}@${hostname()}`,
    createdAt,
    ...(ttlSeconds !== undefined && { expiresAt: new Date(createdAt.getTime() + ttlSeconds * 1000) }),
  };
}

/** The host's scripts that pods use as well. */
const HOST_SCRIPTS = /^(weights.*|prove|prove_processes|footprint|supervise_container|supervise_tree)\.py$/;

/** Files that run in pods: the host's own for weights and proof, those of `pod/`, and the trainer's package. */
export function podFiles(): { scripts: Record<string, string>; trainer: Record<string, string> } {
  const read = (folder: string, is: (name: string) => boolean) =>
    Object.fromEntries(
      readdirSync(folder)
        .filter(is)
        .toSorted()
        .map((name) => [name, readFileSync(join(folder, name), "utf8")]),
    );
  return {
    scripts: {
      ...read(hostScriptsDirectory(), (name) => HOST_SCRIPTS.test(name)),
      ...read(join(packageRoot(), "bootstrap", "kubernetes", "pod"), (name) => /\.(py|sh)$/.test(name)),
      "requirements-trainer.txt": readFileSync(join(trainerDirectory(), "requirements.txt"), "utf8"),
    },
    trainer: read(join(trainerDirectory(), "tandem_trainer"), (name) => name.endsWith(".py")),
  };
}

/** For the outputs: what a pod's node is. */
export function hostFactsOf({ chosen, plan }: Pick<ClusterPrepared, "chosen" | "plan">) {
  return hostOfNode(chosen, plan.gpuIndices.length);
}

/** How long the pods may take to become ready: images and weights come first, at 50 MiB a second each. */
export function readyLimitSeconds({ startup, disk, training }: Plan): number {
  const IMAGE_GIB = 25;
  const slowest = ((IMAGE_GIB + disk.weightsGiB) * 1024) / 50;
  return Math.ceil(slowest + startup.timeoutSeconds * (training.backend === "off" ? 1 : 3));
}
