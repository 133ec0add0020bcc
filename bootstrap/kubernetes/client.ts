import { homedir } from "node:os";
import { join } from "node:path";
import type * as kubernetes from "@kubernetes/client-node";
import { ProblemsError } from "../../plan/problem";

/** Which cluster, as the user's kubeconfig knows it. Its contents never get into a state. */
export interface ClusterTarget {
  readonly kubeconfig?: string;
  readonly context?: string;
}

export interface ClusterClient {
  readonly context: string;
  readonly config: kubernetes.KubeConfig;
  readonly core: kubernetes.CoreV1Api;
  readonly apps: kubernetes.AppsV1Api;
  readonly custom: kubernetes.CustomObjectsApi;
  /** The library; it takes a second to load, so nobody else does it. */
  readonly library: typeof kubernetes;
}

/** What the library makes up where it finds no kubeconfig: a cluster at http://localhost:8080. */
const MADE_UP_CONTEXT = "loaded-context";
/** One answer of an API server may take so long, in seconds; a login helper of the kubeconfig may have to start first. */
const ANSWER_SECONDS = 30;

/**
 * Opens the cluster of the settings; asks nothing yet.
 * @throws ProblemsError for a kubeconfig that can't be read or has no such context
 */
export async function openCluster({ kubeconfig, context }: ClusterTarget): Promise<ClusterClient> {
  const library = await import("@kubernetes/client-node");
  const config = new library.KubeConfig();
  try {
    if (kubeconfig === undefined) config.loadFromDefault();
    else config.loadFromFile(kubeconfig.startsWith("~/") ? join(homedir(), kubeconfig.slice(2)) : kubeconfig);
  } catch (error) {
    throw problem("kubernetes.kubeconfig", `it can't be read: ${messageOf(error)}`, kubeconfig ?? "$KUBECONFIG");
  }
  if (kubeconfig === undefined && config.getCurrentContext() === MADE_UP_CONTEXT) {
    throw problem(
      "kubernetes.kubeconfig",
      "there is no kubeconfig",
      "$KUBECONFIG, else ~/.kube/config",
      "a file's path",
    );
  }
  const names = config.getContexts().map(({ name }) => name);
  const wanted = context ?? config.getCurrentContext();
  if (!names.includes(wanted)) {
    const allowed = names.join(", ") || "(the kubeconfig has none)";
    throw problem("kubernetes.context", "the kubeconfig has no such context", wanted || "(none)", allowed);
  }
  config.setCurrentContext(wanted);
  return {
    context: wanted,
    config,
    core: config.makeApiClient(library.CoreV1Api),
    apps: config.makeApiClient(library.AppsV1Api),
    custom: config.makeApiClient(library.CustomObjectsApi),
    library,
  };
}

function problem(setting: string, what: string, value: string, allowed?: string): ProblemsError {
  return new ProblemsError([{ setting, what, value, ...(allowed !== undefined && { allowed }) }]);
}

/**
 * Waits for an answer, for a limited time.
 * @throws ProblemsError in words where the cluster can't be reached or refuses
 */
export async function answer<Value>(
  { context }: Pick<ClusterClient, "context">,
  asked: Promise<Value>,
): Promise<Value> {
  try {
    return await withLimit(asked, ANSWER_SECONDS, "no answer");
  } catch (error) {
    throw new ProblemsError(
      [{ setting: "kubernetes.context", ...explain(error), value: context }],
      "The cluster can't be asked",
    );
  }
}

/** The same, where the cluster need not have what is asked for, or need not show it to this user. */
export async function answerOr<Value, Otherwise>(
  asked: Promise<Value>,
  otherwise: Otherwise,
): Promise<Value | Otherwise> {
  try {
    return await withLimit(asked, ANSWER_SECONDS, "no answer");
  } catch (error) {
    const code = codeOf(error);
    if (code === 404 || code === 403) return otherwise;
    throw error;
  }
}

async function withLimit<Value>(asked: Promise<Value>, seconds: number, what: string): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} within ${seconds} s`)), seconds * 1000);
  });
  try {
    return await Promise.race([asked, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** HTTP status of an API server's refusal; undefined for anything else. */
export function codeOf(error: unknown): number | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === "number" ? code : undefined;
}

function explain(error: unknown): { what: string; fix?: string } {
  switch (codeOf(error)) {
    case 401:
      return {
        what: "the cluster does not know the user of this context",
        fix: "log in again, then: kubectl auth whoami",
      };
    case 403:
      return {
        what: `the user of this context may not do that: ${statusMessage(error)}`,
        fix: "ask for a role that may read nodes and change the namespace",
      };
    default:
      return {
        what: codeOf(error) === undefined ? messageOf(error) : statusMessage(error),
        fix: "kubectl cluster-info shows whether the cluster answers",
      };
  }
}

/** The sentence of an API server's Status object. */
export function statusMessage(error: unknown): string {
  const { body } = error as { body?: unknown };
  try {
    const status = (typeof body === "string" ? JSON.parse(body) : body) as { message?: string } | undefined;
    return status?.message ?? messageOf(error);
  } catch {
    return messageOf(error);
  }
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  return cause instanceof Error && cause.message !== "" ? cause.message : error.message;
}
