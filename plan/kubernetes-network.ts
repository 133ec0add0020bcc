import { NOT_AWAITED, selectorLabels, stackLabels, type Manifest } from "./kubernetes-names";
import type { Plan } from "./plan";
import type { Settings } from "./settings";

interface NetworkRequest {
  readonly name: string;
  readonly settings: Settings;
  readonly plan: Pick<Plan, "port">;
}

/** Services, the policy that closes everything else, and the way in that was chosen. */
export function networkManifests(request: NetworkRequest): Manifest[] {
  const { expose, serviceMonitor } = request.settings.kubernetes;
  return [
    headlessService(request),
    clientService(request),
    networkPolicy(request),
    ...(expose === "ingress" ? [ingress(request)] : []),
    ...(expose === "gateway-api" ? [httpRoute(request)] : []),
    ...(serviceMonitor ? [monitor(request)] : []),
  ];
}

/** Gives each pod a name of its own, also one that is not ready yet. */
function headlessService({ name, settings, plan }: NetworkRequest): Manifest {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      name: `${name}-pods`,
      namespace: settings.kubernetes.namespace,
      labels: stackLabels(name),
      annotations: NOT_AWAITED,
    },
    spec: {
      clusterIP: "None",
      publishNotReadyAddresses: true,
      selector: selectorLabels(name),
      ports: [{ name: "http", port: plan.port, targetPort: "http" }],
    },
  };
}

/** Tells the Service for clients from the headless one. */
const FOR_CLIENTS = { "app.kubernetes.io/component": "gateway" };

function clientService({ name, settings, plan }: NetworkRequest): Manifest {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      name,
      namespace: settings.kubernetes.namespace,
      labels: { ...stackLabels(name), ...FOR_CLIENTS },
      annotations: NOT_AWAITED,
    },
    spec: {
      type: "ClusterIP",
      selector: selectorLabels(name),
      ports: [{ name: "http", port: plan.port, targetPort: "http", appProtocol: "http" }],
    },
  };
}

/**
 * Closed: in only to the gateway's port, from the stack's own namespace and those that are named; out only to name servers and by
 * HTTPS, which weights and environments are fetched by. `kubectl port-forward` comes from the node and is let through.
 */
function networkPolicy({ name, settings, plan }: NetworkRequest): Manifest {
  const { namespace, allowNamespaces } = settings.kubernetes;
  const others = allowNamespaces.map((other) => ({
    namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": other } },
  }));
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name, namespace, labels: stackLabels(name) },
    spec: {
      podSelector: { matchLabels: selectorLabels(name) },
      policyTypes: ["Ingress", "Egress"],
      ingress: [{ from: [{ podSelector: {} }, ...others], ports: [{ protocol: "TCP", port: plan.port }] }],
      egress: [
        {
          ports: [
            { protocol: "UDP", port: 53 },
            { protocol: "TCP", port: 53 },
          ],
        },
        { ports: [{ protocol: "TCP", port: 443 }] },
      ],
    },
  };
}

/** A generation streams for minutes: the controllers' usual minute would cut it. */
const STREAMING = {
  "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
  "nginx.ingress.kubernetes.io/proxy-buffering": "off",
};

function ingress({ name, settings }: NetworkRequest): Manifest {
  const { namespace, host, ingressClass, tlsSecret } = settings.kubernetes;
  const { bodyMiB, fileMiB } = settings.gateway.limits;
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "Ingress",
    metadata: {
      name,
      namespace,
      labels: stackLabels(name),
      annotations: {
        ...NOT_AWAITED,
        ...STREAMING,
        "nginx.ingress.kubernetes.io/proxy-body-size": `${Math.max(bodyMiB, fileMiB)}m`,
      },
    },
    spec: {
      ...(ingressClass !== undefined && { ingressClassName: ingressClass }),
      ...(tlsSecret !== undefined && { tls: [{ hosts: [host], secretName: tlsSecret }] }),
      rules: [
        {
          host,
          http: {
            paths: [{ path: "/", pathType: "Prefix", backend: { service: { name, port: { name: "http" } } } }],
          },
        },
      ],
    },
  };
}

function httpRoute({ name, settings, plan }: NetworkRequest): Manifest {
  const { namespace, host, gatewayName = "" } = settings.kubernetes;
  const [first = "", second] = gatewayName.split("/");
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "HTTPRoute",
    metadata: { name, namespace, labels: stackLabels(name) },
    spec: {
      parentRefs: [second === undefined ? { name: first } : { namespace: first, name: second }],
      hostnames: [host],
      // No limit: the gateway in the pod has one for each part of a request.
      rules: [{ backendRefs: [{ name, port: plan.port }], timeouts: { request: "0s" } }],
    },
  };
}

function monitor({ name, settings }: NetworkRequest): Manifest {
  const authorization = { type: "Bearer", credentials: { name: `${name}-keys`, key: "apiKey" } };
  return {
    apiVersion: "monitoring.coreos.com/v1",
    kind: "ServiceMonitor",
    metadata: { name, namespace: settings.kubernetes.namespace, labels: stackLabels(name) },
    spec: {
      selector: { matchLabels: { ...selectorLabels(name), ...FOR_CLIENTS } },
      endpoints: [{ port: "http", path: "/metrics", interval: "30s", authorization }],
    },
  };
}
