import { readRunTags, RUN_TAGS, runTags, type RunMark, type TagReading } from "./run-tags";

/** One object as it is sent to the API server. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

/** Room for what the StatefulSet's controller and the API server append to a pod's name in labels. */
const LONGEST_NAME = 40;

/** A name for objects out of a stack's: it starts with a letter, since a Service's must. */
export function objectName(stack: string): string {
  const plain = stack
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, "-")
    .slice(0, LONGEST_NAME)
    .replace(/^-+|-+$/g, "");
  return /^[a-z]/.test(plain) ? plain : `tandem-${plain}`.replace(/-$/, "");
}

/** Labels of everything that a stack has in a cluster. */
export function stackLabels(name: string): Record<string, string> {
  return { ...selectorLabels(name), "app.kubernetes.io/managed-by": "tandem" };
}

/** What a stack's pods are told apart by; never changes, since a StatefulSet's selector can't. */
export function selectorLabels(name: string): Record<string, string> {
  return { "app.kubernetes.io/name": "tandem", "app.kubernetes.io/instance": name };
}

/** For what Pulumi would wait for the pods of, which are made after it. */
export const NOT_AWAITED = { "pulumi.com/skipAwait": "true" };

const PREFIX = "tandem.dev/";

/**
 * A run's tags on a namespace. A label's value may hold no colon, and every time does: the tags are annotations, and the run id is
 * a label as well, to be found by.
 */
export function namespaceTags(mark: RunMark): {
  labels: Record<string, string>;
  annotations: Record<string, string>;
} {
  const annotations = Object.fromEntries(
    Object.entries(runTags(mark)).map(([name, value]) => [annotationName(name), value]),
  );
  return {
    labels: { "app.kubernetes.io/managed-by": "tandem", [`${PREFIX}run-id`]: mark.runId.slice(0, 63) },
    annotations,
  };
}

/** Whose a namespace is, by its annotations. */
export function readNamespaceTags(annotations: Readonly<Record<string, string>> = {}): TagReading {
  const tags = Object.values(RUN_TAGS).flatMap((name) => {
    const value = annotations[annotationName(name)];
    return value === undefined ? [] : [[name, value] as const];
  });
  return readRunTags(Object.fromEntries(tags));
}

/** `tandem:run-id` is no name of an annotation; `tandem.dev/run-id` is. */
function annotationName(tag: string): string {
  return `${PREFIX}${tag.slice("tandem:".length)}`;
}

/** A short hash (FNV-1a, 64 bits) of what pods read only when they start, so that a change of it starts them anew. Not for security. */
export function contentHash(contents: Readonly<Record<string, string>>): string {
  const text = JSON.stringify(Object.entries(contents).toSorted(([left], [right]) => (left < right ? -1 : 1)));
  let hash = 0xcbf29ce484222325n;
  for (let position = 0; position < text.length; position++) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(text.charCodeAt(position))) * 0x100000001b3n);
  }
  return hash.toString(16).padStart(16, "0");
}
