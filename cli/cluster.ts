import type { ClusterTarget } from "../bootstrap/kubernetes/client";
import type { Check } from "../plan/compare";
import type { Settings } from "../plan/settings";
import { loadSettings } from "../stacks/config";
import type { Environment } from "./environments";
import { CommandError, messageOf } from "./exit";
import { SettingsFile } from "./settings-file";

/**
 * Deletes the namespace that a killed `up` made and no state knows of, whatever the state says.
 * @returns whether there was one
 * @throws Error when the cluster can't be asked, or something stays
 */
export async function sweepCluster(environment: Environment, say: (line: string) => void): Promise<boolean> {
  const settings = settingsOf(environment);
  if (settings?.target !== "kubernetes" || !settings.kubernetes.createNamespace) return false;
  // The cluster's library takes a second to load: nobody else pays for it.
  const { openCluster } = await import("../bootstrap/kubernetes/client.js");
  const { deleteNamespace, ownNamespaces } = await import("../bootstrap/kubernetes/gone.js");
  const { kubeconfig, context, namespace } = settings.kubernetes;
  const target: ClusterTarget = { kubeconfig, context };
  const { own } = await ownNamespaces(await openCluster(target), new Date());
  if (!own.some(({ name, stack }) => name === namespace && stack === environment.name)) return false;
  say(`namespace ${namespace} is left of this environment; deleting it`);
  await deleteNamespace(target, namespace, say);
  return true;
}

/**
 * Measures now what the pods of an environment in a cluster do, and compares with what would be planned for them.
 * @returns undefined for an environment that is in no cluster
 */
export async function clusterChecks(
  environment: Environment,
  apiKey: string,
  say: (line: string) => void,
): Promise<Check[] | undefined> {
  const settings = settingsOf(environment);
  if (settings?.target !== "kubernetes") return undefined;
  const { prepareCluster } = await import("../bootstrap/kubernetes/prepare.js");
  const { proveCluster } = await import("../bootstrap/kubernetes/prove.js");
  const { settings: planned, cluster } = await prepareCluster(settings, environment.name);
  const { namespace, pods } = planned.kubernetes;
  const { target, name, plan } = cluster;
  const request = {
    target,
    namespace,
    name,
    pods,
    plan,
    revision: "",
    limitSeconds: READY_SECONDS,
    proves: true,
    apiKey,
  };
  try {
    const results = await proveCluster(request, say);
    return results.flatMap(({ checks }, index) =>
      pods === 1 ? checks : checks.map((check) => ({ ...check, name: `${name}-${index}: ${check.name}` })),
    );
  } catch (error) {
    return [{ name: "pods", status: "fail", detail: messageOf(error) }];
  }
}

/** Pods that are not ready by then are not: whoever asks for the status does not wait for a start. */
const READY_SECONDS = 5;

/**
 * For a command that asks hosts.
 * @throws CommandError that names kubectl's own, for an environment in a cluster
 */
export function refuseCluster(environment: Environment, instead: string): void {
  const settings = settingsOf(environment);
  if (settings?.target !== "kubernetes") return;
  const { context, namespace } = settings.kubernetes;
  const kubectl = `kubectl ${context === undefined ? "" : `--context ${context} `}-n ${namespace}`;
  throw new CommandError(`${environment.name} is in a cluster, which has no hosts to ask — fix: ${kubectl} ${instead}`);
}

function settingsOf(environment: Environment): Settings | undefined {
  try {
    return loadSettings(SettingsFile.read(environment.source.path).config());
  } catch {
    // Settings that can't be read take nothing away.
    return undefined;
  }
}
