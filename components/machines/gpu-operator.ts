import { Namespace } from "@pulumi/kubernetes/core/v1/namespace";
import { Release } from "@pulumi/kubernetes/helm/v3/release";
import * as pulumi from "@pulumi/pulumi";

const REPOSITORY = "https://helm.ngc.nvidia.com/nvidia";
/** The newest that NVIDIA's guide names; not tried here, where no GPU node and no chart can be had. */
const VERSION = "v25.10.1";
/** The images of its parts are large, and it waits for each node: minutes on a good day. */
const TIMEOUT_SECONDS = 1800;

/**
 * NVIDIA's GPU Operator by Helm, where nothing hands out GPUs and the settings ask for it. Its driver part stays off: node images of
 * the clouds bring a driver, and a second one would break it. It is meant for the whole cluster and for others too, so it stays when the stack goes.
 */
export class GpuOperator extends pulumi.ComponentResource {
  constructor(name: string, opts: pulumi.CustomResourceOptions) {
    super("tandem:index:GpuOperator", `${name}-gpu-operator`, {}, { parent: opts.parent });
    const { provider, dependsOn } = opts;
    const child = { parent: this, provider, dependsOn, retainOnDelete: true };
    const space = new Namespace(
      `${name}-gpu-operator-namespace`,
      {
        metadata: {
          name: "gpu-operator",
          // Its parts reach into the nodes.
          labels: { "pod-security.kubernetes.io/enforce": "privileged" },
        },
      },
      child,
    );
    new Release(
      `${name}-gpu-operator-release`,
      {
        name: "gpu-operator",
        namespace: "gpu-operator",
        chart: "gpu-operator",
        version: VERSION,
        repositoryOpts: { repo: REPOSITORY },
        timeout: TIMEOUT_SECONDS,
        values: { driver: { enabled: false } },
      },
      { ...child, dependsOn: space },
    );
    this.registerOutputs({});
  }
}
