import { gatewayConfiguration, type Gateway } from "./gateway";
import { RESTRICTED } from "./kubernetes-containers";
import type { Plan } from "./plan";
import type { Settings } from "./settings";

const CONFIGURATION = "/etc/tandem-gateway";
const KEYS = "/etc/tandem-keys";
const RUN = "/run/tandem-gateway";

/**
 * nginx's configuration, the same as on a host, with the folders of a pod: read-only ones for the configuration and the keys, one of memory
 * for the rest. There is no monitor beside it: metrics are vLLM's own.
 */
export function podGatewayConfiguration({ gateway: { limits } }: Settings, plan: Plan): string {
  const serving = `127.0.0.1:${plan.servingPort}`;
  const gateway: Gateway = {
    // Probes, Services and the Ingress come by the pod's address; the NetworkPolicy says who may.
    address: "0.0.0.0",
    port: plan.port,
    tls: false,
    allowedCidrs: [],
    serving: [serving],
    ...(plan.training.backend !== "off" && { training: `127.0.0.1:${plan.training.port}` }),
    limits,
  };
  return gatewayConfiguration(gateway)
    .replaceAll("unix:{run}/var/monitor.sock", serving)
    .replaceAll("{run}/keys.conf", `${KEYS}/keys.conf`)
    .replaceAll("{run}/var", RUN)
    .replaceAll("{run}", CONFIGURATION)
    .replaceAll("{version}", "pod");
}

const KEY = /^[A-Za-z0-9_-]{32,128}$/;

/**
 * The file that tells nginx which keys there are, as `bootstrap/host/gateway_files.py` writes it on a host: from a request's key to its
 * name, and the key that the services behind know.
 * @throws RangeError for what is no key: nginx would read it as a pattern
 */
export function gatewayKeys(keys: Readonly<Record<string, string>>, upstreamKey: string): string {
  for (const key of [...Object.values(keys), upstreamKey]) {
    if (!KEY.test(key)) throw new RangeError("a key is not of the form that Tandem makes");
  }
  const lines = Object.entries(keys)
    .toSorted(([left], [right]) => (left < right ? -1 : 1))
    .map(([name, key]) => String.raw`  "~^(?i:bearer) +${key} *\z" ${name};` + "\n");
  return [
    'map $http_authorization $tandem_client {\n  default "";\n',
    ...lines,
    `}\nmap "" $tandem_upstream_key { default "Bearer ${upstreamKey}"; }\n`,
  ].join("");
}

/** The container in front of the others, the only one that listens to the network. */
export function gatewayPart(
  name: string,
  { kubernetes }: Settings,
  plan: Plan,
): { readonly container: object; readonly volumes: readonly object[] } {
  const health = (periodSeconds: number, failureThreshold: number) => ({
    tcpSocket: { port: "http" },
    periodSeconds,
    failureThreshold,
  });
  return {
    container: {
      name: "gateway",
      image: kubernetes.images.gateway,
      imagePullPolicy: "IfNotPresent",
      terminationMessagePolicy: "FallbackToLogsOnError",
      securityContext: { ...RESTRICTED, readOnlyRootFilesystem: true },
      command: ["nginx", "-e", "stderr", "-p", CONFIGURATION, "-c", `${CONFIGURATION}/nginx.conf`],
      ports: [{ name: "http", containerPort: plan.port }],
      resources: { requests: { cpu: "100m", memory: "64Mi" }, limits: { memory: "512Mi" } },
      // Whether vLLM is ready is its own container's matter, and a pod is ready when all its containers are.
      readinessProbe: health(10, 3),
      livenessProbe: health(20, 3),
      // Requests still come for a moment after the pod has left the Service.
      lifecycle: { preStop: { sleep: { seconds: 5 } } },
      volumeMounts: [
        { name: "gateway", mountPath: CONFIGURATION, readOnly: true },
        { name: "gateway-keys", mountPath: KEYS, readOnly: true },
        { name: "gateway-run", mountPath: RUN },
      ],
    },
    volumes: [
      { name: "gateway", configMap: { name: `${name}-gateway` } },
      {
        name: "gateway-keys",
        secret: { secretName: `${name}-keys`, defaultMode: 0o440, items: [{ key: "keys.conf", path: "keys.conf" }] },
      },
      { name: "gateway-run", emptyDir: { medium: "Memory", sizeLimit: "256Mi" } },
    ],
  };
}
