import * as pulumi from "@pulumi/pulumi";
import type { ClusterPrepared } from "../bootstrap/kubernetes/prepare";
import { hostFactsOf } from "../bootstrap/kubernetes/prepare";
import { ClusterPair } from "../components/machines/kubernetes";
import type { Prepared, PreparedHost } from "../bootstrap/runner/prepare";
import type { Reach } from "../bootstrap/runner/reach";
import type { Settings } from "../plan/settings";
import { buildOutputs } from "./build-outputs";
import type { Outputs } from "./outputs";

/** The program's part for `target: kubernetes`: the same outputs, with a pod in the place of a host. */
export function clusterOutputs({
  settings,
  cluster,
}: Pick<Prepared, "settings"> & { cluster: ClusterPrepared }): pulumi.Output<Outputs> {
  const pair = new ClusterPair(pulumi.getStack(), { settings, cluster });
  return pulumi
    .all([pair.apiKey, pair.apiKeys, pair.proven, pair.startedAt])
    .apply(([apiKey, apiKeys, proven, startedAt]) =>
      buildOutputs({
        prepared: { settings, hosts: podsAsHosts(settings, cluster) },
        servedModelName: pair.servedModelName,
        apiKey,
        apiKeys,
        proven,
        startedAt,
        cluster: {
          reach: reachCluster(settings, cluster),
          address: addressOf(settings, cluster),
          expiresAt: cluster.mark?.expiresAt,
        },
      }),
    );
}

/** Every pod serves the whole model for itself, as a host does. */
export function podsAsHosts({ kubernetes }: Settings, cluster: ClusterPrepared): PreparedHost[] {
  const facts = hostFactsOf(cluster);
  return Array.from({ length: kubernetes.pods }, (_, index) => {
    const name = `${cluster.name}-${index}`;
    const host: PreparedHost["host"] = {
      name,
      target: { kind: "local" },
      stack: cluster.name,
      facts: { ...facts, name },
      checks: [],
      tokens: {} as PreparedHost["host"]["tokens"],
    };
    return { host, plan: cluster.plan };
  });
}

/** By the name that was given to the outside, else on this machine behind `kubectl port-forward`. */
export function reachCluster(settings: Settings, { name, target, context }: ClusterPrepared): Reach {
  const { expose, host, tlsSecret, namespace } = settings.kubernetes;
  const isOutside = expose !== "clusterIP" && host !== undefined;
  const server = isOutside
    ? `${tlsSecret === undefined ? "http" : "https"}://${host}`
    : `http://127.0.0.1:${settings.port}`;
  const config = target.kubeconfig === undefined ? "" : `--kubeconfig ${target.kubeconfig} `;
  const port = `${settings.port}:${settings.port}`;
  return {
    server,
    ...(settings.training.backend !== "off" && { fineTuning: `${server}/v1` }),
    ...(!isOutside && {
      connect: `kubectl ${config}--context ${context} -n ${namespace} port-forward service/${name} ${port}`,
    }),
  };
}

/** As pods of the cluster call it. */
function addressOf({ kubernetes }: Settings, { name }: ClusterPrepared): string {
  return `${name}.${kubernetes.namespace}.svc`;
}
