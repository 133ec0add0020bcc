/** What the program knows of a cluster before it changes anything. Plain data; made by `bootstrap/kubernetes/facts.ts` from the API. */
export interface ClusterFacts {
  /** Name of the kubeconfig's context. */
  readonly context: string;
  /** Of the API server, e.g. `v1.36.3`. */
  readonly serverVersion: string;
  readonly nodes: readonly ClusterNode[];
  /** Dynamic Resource Allocation; absent where the API server does not serve it. */
  readonly dra?: DraFacts;
  readonly gpuOperator: GpuOperatorFacts;
  readonly storageClasses: readonly { readonly name: string; readonly isDefault: boolean }[];
  readonly priorityClasses: readonly string[];
  readonly runtimeClasses: readonly string[];
  readonly ingressClasses: readonly { readonly name: string; readonly isDefault: boolean }[];
  /** Whether the API server serves these kinds, which come as custom resources. */
  readonly hasHttpRoutes: boolean;
  readonly hasServiceMonitors: boolean;
  /** The namespace of the settings; absent where there is none of that name. */
  readonly namespace?: NamespaceFacts;
}

interface NamespaceFacts {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface ClusterNode {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly NodeTaint[];
  readonly isReady: boolean;
  /** Cordoned: nothing new is put on it. */
  readonly isUnschedulable: boolean;
  readonly allocatable: NodeResources;
  /** What the pods on it have asked for. */
  readonly requested: NodeResources;
  readonly kernel?: string;
}

export interface NodeResources {
  /** `nvidia.com/gpu`, what the device plugin hands out. */
  readonly gpus: number;
  readonly cpuCores: number;
  readonly memoryGiB: number;
  readonly diskGiB: number;
}

export interface NodeTaint {
  readonly key: string;
  readonly value?: string;
  readonly effect: string;
}

interface DraFacts {
  /** Version of `resource.k8s.io` that is asked for claims. */
  readonly apiVersion: "v1" | "v1beta2" | "v1beta1";
  readonly deviceClasses: readonly string[];
  readonly slices: readonly ResourceSliceFacts[];
}

/** Devices that a DRA driver offers on one node. */
export interface ResourceSliceFacts {
  readonly driver: string;
  readonly node?: string;
  readonly devices: readonly {
    readonly name: string;
    /** `gpu` for a whole one, `mig` for a part, as NVIDIA's driver says in the attribute `type`. */
    readonly type?: string;
    readonly productName?: string;
    readonly memoryGiB?: number;
    readonly driverVersion?: string;
  }[];
}

interface GpuOperatorFacts {
  /** Whether its ClusterPolicy is there, and what its state says: `ready`, `notReady`. */
  readonly policyState?: string;
  readonly version?: string;
  /** Whether it is told to bring a driver; absent without an operator. */
  readonly managesDriver?: boolean;
}

/** The resource that NVIDIA's device plugin hands out. */
export const GPU_RESOURCE = "nvidia.com/gpu";
/** The DeviceClass and the driver's name of NVIDIA's DRA driver for whole GPUs. */
export const GPU_DEVICE_CLASS = "gpu.nvidia.com";
