import type { V1ContainerStatus } from "@kubernetes/client-node";
import type { Trouble } from "./words";

/** Causes of a failed pull by what container runtimes and registries say. */
const CAUSES: readonly {
  readonly says: RegExp;
  readonly cause: string;
  readonly cure: string;
  readonly hopeless: boolean;
}[] = [
  {
    says: /unauthorized|authentication required|403 Forbidden|pull access denied|insufficient_scope|denied/i,
    cause: "the registry wants a login",
    cure: "make a Secret with the registry's password and name it in `kubernetes.images.pullSecrets`",
    hopeless: true,
  },
  {
    says: /manifest unknown|not found|does not exist|\b404\b/i,
    cause: "the registry has no such image",
    cure: "check name and tag in `kubernetes.images`",
    hopeless: true,
  },
  {
    says: /toomanyrequests|rate limit|\b429\b/i,
    cause: "the registry counts the pulls and has had enough",
    cure: "log in to it (`kubernetes.images.pullSecrets`), or use a mirror",
    hopeless: false,
  },
  {
    says: /no such host|server misbehaving|i\/o timeout|connection refused|network is unreachable|context deadline exceeded/i,
    cause: "the node does not reach the registry",
    cure: "use a registry that the nodes reach (`kubernetes.images`), or open the way",
    hopeless: false,
  },
  {
    says: /x509|certificate/i,
    cause: "the node does not trust the registry's certificate",
    cure: "give the nodes its authority, or use another registry",
    hopeless: true,
  },
  {
    says: /no space left on device/i,
    cause: "the node's disk is full",
    cure: "free some space on the node; the images take 25 GiB and more",
    hopeless: false,
  },
  {
    says: /no match for platform|exec format/i,
    cause: "the image is for another kind of processor",
    cure: "choose nodes by `kubernetes.nodeSelector`: kubernetes.io/arch",
    hopeless: true,
  },
];

/** A pull is tried again and again: after so long an answer of this kind will not change. */
const HOPELESS_SECONDS = 45;

/** Why the image of a container does not come; undefined where it does. */
export function imageTrouble(pod: string, { name, image, state }: V1ContainerStatus): Trouble | undefined {
  const reason = state?.waiting?.reason ?? "";
  const message = state?.waiting?.message ?? "";
  if (reason === "InvalidImageName") {
    return {
      code: "image-name",
      pod,
      text: `the image of ${name} has a name that nobody can read: ${image}`,
      cure: "check `kubernetes.images`",
      hopelessAfterSeconds: 0,
    };
  }
  if (!["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"].includes(reason))
    return undefined;
  const known = CAUSES.find(({ says }) => says.test(message));
  // While they back off, older kubelets give no reason any more: what the pull said stands in the words before.
  const cause = known?.cause ?? (message.startsWith("Back-off") ? "it is tried again" : message.slice(0, 300));
  return {
    code: "image-pull",
    pod,
    text: `the image of ${name} can't be pulled (${image}): ${cause}`,
    cure: known?.cure ?? `kubectl describe pod ${pod}`,
    ...(known?.hopeless === true && { hopelessAfterSeconds: HOPELESS_SECONDS }),
  };
}
