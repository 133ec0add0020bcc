import type { ClusterTarget } from "../bootstrap/kubernetes/client";
import type { Settings } from "../plan/settings";
import { loadSettings } from "../stacks/config";
import type { Environment } from "./environments";
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

function settingsOf(environment: Environment): Settings | undefined {
  try {
    return loadSettings(SettingsFile.read(environment.source.path).config());
  } catch {
    // Settings that can't be read take nothing away.
    return undefined;
  }
}
