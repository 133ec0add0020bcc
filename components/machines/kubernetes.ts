import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { CustomResource } from "@pulumi/kubernetes/apiextensions/customResource";
import { StatefulSet } from "@pulumi/kubernetes/apps/v1/statefulSet";
import { ConfigMap } from "@pulumi/kubernetes/core/v1/configMap";
import { Namespace } from "@pulumi/kubernetes/core/v1/namespace";
import { Secret } from "@pulumi/kubernetes/core/v1/secret";
import { Service } from "@pulumi/kubernetes/core/v1/service";
import { Ingress } from "@pulumi/kubernetes/networking/v1/ingress";
import { NetworkPolicy } from "@pulumi/kubernetes/networking/v1/networkPolicy";
import { PodDisruptionBudget } from "@pulumi/kubernetes/policy/v1/podDisruptionBudget";
import { Provider } from "@pulumi/kubernetes/provider";
import * as pulumi from "@pulumi/pulumi";
import { readyLimitSeconds, type ClusterPrepared } from "../../bootstrap/kubernetes/prepare";
import type { ProofResult } from "../../bootstrap/runner/proof";
import { gatewayKeys } from "../../plan/kubernetes-gateway";
import { lastingPlan } from "../../plan/kubernetes-manifests";
import { stackLabels, type Manifest } from "../../plan/kubernetes-names";
import { cacheAtDestroy } from "../../plan/lease-defaults";
import type { Settings } from "../../plan/settings";
import { makeApiKeys, type ApiKeys } from "../api-keys";
import { ClusterProven, ClusterTaken } from "../host-step";
import { GpuOperator } from "./gpu-operator";

export interface ClusterPairArgs {
  /** As `prepare()` returns them: with a gateway. */
  readonly settings: Settings;
  readonly cluster: ClusterPrepared;
  /** False waits for the pods and asks them nothing. */
  readonly proves?: boolean;
}

/** A resource of the cluster, whatever its class. */
type Made = pulumi.CustomResource;
type Options = pulumi.CustomResourceOptions;

/**
 * vLLM, and a trainer on the same GPUs, in the pods of a Kubernetes cluster, proven by a generated token.
 * Takes what `prepare()` returns, so a plan that does not fit never gets here.
 */
export class ClusterPair extends pulumi.ComponentResource {
  /** Secret; the key called `default`. */
  readonly apiKey: pulumi.Output<string>;
  /** Secret; every key by its name. */
  readonly apiKeys: pulumi.Output<Record<string, string>>;
  readonly servedModelName: string;
  /** What was measured, compared with the plan; one for each pod. */
  readonly proven: pulumi.Output<ProofResult[]>;
  /** When the stack came into the cluster, ISO 8601. */
  readonly startedAt: pulumi.Output<string>;

  /** @param name the stack's name; resources are called `<name>-<kind>…` */
  constructor(name: string, args: ClusterPairArgs, opts: pulumi.ComponentResourceOptions = {}) {
    super("tandem:index:ClusterPair", name, {}, opts);
    const { settings, cluster, proves = true } = args;
    const { namespace, createNamespace } = settings.kubernetes;
    const target = absolute(cluster);
    const keys = makeApiKeys(name, settings, { parent: this });
    const held = { target, namespace, name: cluster.name };
    const taken = new ClusterTaken(
      `${name}-cluster`,
      { ...held, ownsNamespace: createNamespace, keepsVolumes: cacheAtDestroy(settings) === "keep" },
      { parent: this },
    );
    // The path, never the contents: those are credentials, and belong to whoever runs this.
    const provider = new Provider(
      `${name}-kubernetes`,
      {
        kubeconfig: target.kubeconfig,
        context: target.context,
        enableServerSideApply: true,
        // Their names stay, so one that changes would be away for a moment, and a pod that starts then would find nothing.
        enableConfigMapMutable: true,
        enableSecretMutable: true,
      },
      { parent: this, dependsOn: taken },
    );
    const child = { parent: this, provider, dependsOn: [taken] };
    const operator = cluster.installsOperator ? [new GpuOperator(name, child)] : [];
    const last = this.objects(name, args, keys, { ...child, dependsOn: [taken, ...operator] });
    const proof = new ClusterProven(
      `${name}-proof`,
      {
        request: pulumi.all([keys.value, last.generation]).apply(([apiKey, generation]) => ({
          ...held,
          plan: lastingPlan(cluster.plan),
          pods: settings.kubernetes.pods,
          revision: String(generation ?? ""),
          limitSeconds: readyLimitSeconds(cluster.plan),
          proves,
          apiKey,
        })),
        reason: cluster.proofReason,
      },
      { parent: this, dependsOn: last.all },
    );
    this.servedModelName = cluster.plan.model;
    this.apiKey = keys.value;
    this.apiKeys = pulumi.all(Object.fromEntries(Object.entries(keys.named).map(([who, { value }]) => [who, value])));
    this.proven = proof.results;
    this.startedAt = taken.createdAt;
    this.registerOutputs({ startedAt: this.startedAt });
  }

  /** The namespace first, then the Secret and all else, the StatefulSet last: its pods find everything that they refer to. */
  private objects(
    name: string,
    { settings, cluster }: ClusterPairArgs,
    keys: ApiKeys,
    opts: Omit<Options, "dependsOn"> & { readonly dependsOn: pulumi.Resource[] },
  ): { all: pulumi.Resource[]; generation: pulumi.Output<number | undefined> } {
    for (const warning of cluster.manifests.warnings) void pulumi.log.warn(warning, this);
    const { objects } = cluster.manifests;
    const spaces = objects.filter(({ kind }) => kind === "Namespace").map((object) => make(name, object, opts));
    const inside = { ...opts, dependsOn: [...opts.dependsOn, ...spaces] };
    const secret = keysSecret(name, { settings, cluster }, keys, inside);
    const others = objects
      .filter(({ kind }) => kind !== "Namespace" && kind !== "StatefulSet")
      .map((object) => make(name, object, inside));
    const set = objects.find(({ kind }) => kind === "StatefulSet");
    if (set === undefined) throw new Error("a stack in a cluster has a StatefulSet");
    const serving = new StatefulSet(`${name}-statefulset`, set as never, {
      ...inside,
      dependsOn: [...inside.dependsOn, secret, ...others],
      // Its name stays the same, so another one can't be there beside it.
      deleteBeforeReplace: true,
    });
    return {
      all: [...spaces, secret, ...others, serving],
      generation: serving.metadata.apply((metadata) => metadata.generation as number | undefined),
    };
  }
}

function keysSecret(name: string, { settings, cluster }: ClusterPairArgs, keys: ApiKeys, opts: Options): Secret {
  const named = pulumi.all(Object.fromEntries(Object.entries(keys.named).map(([who, { value }]) => [who, value])));
  return new Secret(
    `${name}-keys`,
    {
      metadata: {
        name: cluster.manifests.secretName,
        namespace: settings.kubernetes.namespace,
        labels: stackLabels(cluster.name),
      },
      stringData: {
        apiKey: keys.value,
        upstreamKey: keys.upstream,
        "keys.conf": pulumi.all([named, keys.upstream]).apply(([all, upstream]) => gatewayKeys(all, upstream)),
        ...(settings.hubToken !== undefined && { hubToken: pulumi.secret(settings.hubToken) }),
      },
    },
    opts,
  );
}

/** One object as a resource of its class; kinds that come with custom resource definitions have none. */
function make(name: string, object: Manifest, opts: Options): Made {
  const called = `${name}-${object.kind.toLowerCase()}-${object.metadata.name}`;
  // The classes' types name every field; the manifests were checked by the API server (test/kubernetes).
  const args = object as never;
  switch (object.kind) {
    case "Namespace":
      return new Namespace(called, args, opts);
    case "ConfigMap":
      return new ConfigMap(called, args, opts);
    case "Service":
      return new Service(called, args, opts);
    case "NetworkPolicy":
      return new NetworkPolicy(called, args, opts);
    case "Ingress":
      return new Ingress(called, args, opts);
    case "PodDisruptionBudget":
      return new PodDisruptionBudget(called, args, opts);
    default:
      return new CustomResource(called, args, opts);
  }
}

/** The state outlives the folder that a relative path is read from. */
function absolute({ target: { kubeconfig }, context }: ClusterPrepared): { kubeconfig?: string; context: string } {
  if (kubeconfig === undefined) return { context };
  const path = kubeconfig.startsWith("~/") ? join(homedir(), kubeconfig.slice(2)) : resolve(kubeconfig);
  return { kubeconfig: path, context };
}
