import type { ClusterFacts } from "./kubernetes-facts";
import type { Verdict } from "./kubernetes-verdicts";
import type { Settings } from "./settings";

/**
 * What the settings name and the cluster must have. Codes:
 *   namespace namespace-missing namespace-taken pod-security storage-class priority-class runtime-class ingress-class gateway-api
 *   service-monitor dra-missing
 */
export function clusterNeeds(facts: ClusterFacts, settings: Settings): Verdict[] {
  const { kubernetes } = settings;
  return [
    ...namespaceVerdicts(facts, settings),
    ...missing(
      "storage-class",
      "storageClass",
      kubernetes.storageClass,
      facts.storageClasses.map(({ name }) => name),
    ),
    ...missing("priority-class", "priorityClass", kubernetes.priorityClass, facts.priorityClasses),
    ...missing("runtime-class", "runtimeClass", kubernetes.runtimeClass, facts.runtimeClasses),
    ...(kubernetes.expose === "ingress"
      ? missing(
          "ingress-class",
          "ingressClass",
          kubernetes.ingressClass,
          facts.ingressClasses.map(({ name }) => name),
        )
      : []),
    ...noDefaults(facts, settings),
    ...noKinds(facts, settings),
  ];
}

function namespaceVerdicts({ namespace }: ClusterFacts, { kubernetes }: Settings): Verdict[] {
  const name = kubernetes.namespace;
  if (namespace === undefined) {
    if (kubernetes.createNamespace) return [];
    return [
      {
        code: "namespace-missing",
        level: "fail",
        text: `there is no namespace ${name}, and \`createNamespace\` is false`,
        cure: `kubectl create namespace ${name}, or set \`kubernetes.createNamespace\` to true`,
        setting: "kubernetes.namespace",
      },
    ];
  }
  if (kubernetes.createNamespace && namespace.labels["app.kubernetes.io/managed-by"] !== "tandem") {
    return [
      {
        code: "namespace-taken",
        level: "fail",
        text: `the namespace ${name} is there and is not Tandem's: destroy would delete all that is in it`,
        cure: "choose another `kubernetes.namespace`, or set `kubernetes.createNamespace` to false to use it and leave it",
        setting: "kubernetes.namespace",
      },
    ];
  }
  return [];
}

function missing(
  code: string,
  setting: keyof Settings["kubernetes"],
  wanted: string | undefined,
  there: readonly string[],
): Verdict[] {
  if (wanted === undefined || there.includes(wanted)) return [];
  return [
    {
      code,
      level: "fail",
      text: `the cluster has no ${wanted}`,
      cure: there.length === 0 ? "leave it out" : `one of ${there.join(", ")}`,
      setting: `kubernetes.${setting}`,
    },
  ];
}

/** What stays out of the settings must have a default in the cluster. */
function noDefaults({ storageClasses, ingressClasses }: ClusterFacts, { kubernetes }: Settings): Verdict[] {
  const verdicts: Verdict[] = [];
  if (kubernetes.storageClass === undefined && !storageClasses.some(({ isDefault }) => isDefault)) {
    const names = storageClasses.map(({ name }) => name).join(", ");
    verdicts.push({
      code: "storage-class",
      level: "fail",
      text: "the cluster has no default storage class, so nothing would make the volume for the weights",
      cure: names === "" ? "install a storage provisioner" : `set it to one of ${names}`,
      setting: "kubernetes.storageClass",
    });
  }
  if (
    kubernetes.expose === "ingress" &&
    kubernetes.ingressClass === undefined &&
    !ingressClasses.some(({ isDefault }) => isDefault)
  ) {
    verdicts.push({
      code: "ingress-class",
      level: "fail",
      text: "the cluster has no default IngressClass, so no controller would serve the Ingress",
      cure: `set it to one of ${ingressClasses.map(({ name }) => name).join(", ") || "(there is none: install a controller)"}`,
      setting: "kubernetes.ingressClass",
    });
  }
  return verdicts;
}

function noKinds(facts: ClusterFacts, { kubernetes }: Settings): Verdict[] {
  const verdicts: Verdict[] = [];
  if (kubernetes.expose === "gateway-api" && !facts.hasHttpRoutes) {
    verdicts.push({
      code: "gateway-api",
      level: "fail",
      text: "the cluster does not know HTTPRoutes of gateway.networking.k8s.io/v1",
      cure: "install the Gateway API and a controller, or set `kubernetes.expose` to ingress",
      setting: "kubernetes.expose",
    });
  }
  if (kubernetes.serviceMonitor && !facts.hasServiceMonitors) {
    verdicts.push({
      code: "service-monitor",
      level: "fail",
      text: "the cluster does not know ServiceMonitors: the Prometheus Operator is not installed",
      cure: "install it, or set it to false",
      setting: "kubernetes.serviceMonitor",
    });
  }
  return verdicts;
}
