import type { ClusterFacts } from "./kubernetes-facts";
import { GPU_RESOURCE } from "./kubernetes-facts";
import { servingProbes, trainingProbes } from "./kubernetes-probes";
import type { GpuSharing } from "./kubernetes-sharing";
import type { Candidate } from "./kubernetes-nodes";
import { hostOfNode } from "./kubernetes-nodes";
import { launchServing, type Launch } from "./launch";
import { launchTraining } from "./launch-training";
import type { Plan } from "./plan";
import type { Settings } from "./settings";

/** What a pod is made of: everything that was decided before. */
export interface PodRequest {
  /** Name of the stack's objects. */
  readonly name: string;
  readonly settings: Settings;
  readonly plan: Plan;
  readonly facts: ClusterFacts;
  readonly chosen: Candidate;
  readonly sharing: GpuSharing;
}

type Container = Readonly<Record<string, unknown>> & { readonly name: string };

export const CLAIM = "gpus";
/** Where the weights' init container puts a link to the model's directory. */
const MODEL_LINK = "/cache/model";
const ADAPTERS = "/dev/shm/tandem-adapters";
const PACKAGE = "/opt/tandem/trainer";
/** The trainer beside a vLLM that hangs has its jobs to keep, which pair.py gives it a minute for. */
const PAIR_STOP_SECONDS = 90;
/** vLLM's own environment in the trainer's image, made by an init container. */
const VLLM_ENVIRONMENT = "/cache/vllm";
const TRAINER_ENVIRONMENT = "/cache/trainer";

/** Every container: nothing of the restricted Pod Security standard is asked an exception of. */
export const RESTRICTED = {
  allowPrivilegeEscalation: false,
  capabilities: { drop: ["ALL"] },
  runAsNonRoot: true,
  seccompProfile: { type: "RuntimeDefault" },
};

const MOUNTS = [
  { name: "cache", mountPath: "/cache" },
  { name: "memory", mountPath: "/dev/shm" },
  { name: "tmp", mountPath: "/tmp" },
  { name: "scripts", mountPath: "/opt/tandem/bin", readOnly: true },
];
const TRAINER_MOUNT = { name: "trainer", mountPath: `${PACKAGE}/tandem_trainer`, readOnly: true };

/** Caches go to the volume, so that a restarted pod compiles nothing again; a user without a name would end PyTorch's compiler. */
const PROCESS_ENVIRONMENT = {
  HOME: "/cache/home",
  USER: "tandem",
  LOGNAME: "tandem",
  XDG_CACHE_HOME: "/cache/home/.cache",
  HF_HOME: "/cache/huggingface",
  VLLM_CACHE_ROOT: "/cache/vllm-cache",
  TORCHINDUCTOR_CACHE_DIR: "/cache/inductor",
  TRITON_CACHE_DIR: "/cache/triton",
};

/** The image of vLLM; a tag where no digest was given. */
export function servingImage({ kubernetes, vllmVersion }: Settings): string {
  return kubernetes.images.serving ?? `docker.io/vllm/vllm-openai:v${vllmVersion}`;
}

/** How vLLM is started in the pod, from the same planner as on a host. It listens on loopback: the gateway beside it is the door. */
export function servingLaunch({ plan, settings, chosen, sharing }: PodRequest): Launch {
  const separate = sharing.kind !== "single-container";
  const launch = launchServing(
    plan,
    {
      python: separate ? "python3" : `${VLLM_ENVIRONMENT}/bin/python`,
      vllmVersion: settings.vllmVersion,
      device: plan.device,
      flags: [],
    },
    {
      modelPath: MODEL_LINK,
      servedModelName: plan.model,
      host: "127.0.0.1",
      port: plan.servingPort,
      extraArgs: settings.serving.extraArgs,
      extraEnv: settings.serving.extraEnv,
      facts: hostOfNode(chosen, plan.gpuIndices.length),
    },
  );
  // A pod's cores are the scheduler's matter: their numbers on the node are not known before.
  const { VLLM_CPU_OMP_THREADS_BIND: _cores, ...env } = launch.env;
  return { ...launch, env };
}

function trainingLaunch({ plan, settings, chosen }: PodRequest): { argv: string[]; env: Record<string, string> } {
  const launch = launchTraining(plan, {
    python: `${TRAINER_ENVIRONMENT}/bin/python`,
    modelPath: MODEL_LINK,
    servedModelName: plan.model,
    settings,
    facts: hostOfNode(chosen, plan.gpuIndices.length),
  });
  const placed = (text: string) =>
    text.replace("{state}", "/cache/training").replace("{adapters}", ADAPTERS).replace("{package}", PACKAGE);
  return {
    argv: launch.argv.map(placed),
    env: Object.fromEntries(Object.entries(launch.env).map(([name, value]) => [name, placed(value)])),
  };
}

/** The containers that work, without the gateway. */
export function workContainers(request: PodRequest): Container[] {
  const trains = request.plan.training.backend !== "off";
  if (request.sharing.kind === "single-container") return [pair(request)];
  return trains ? [serving(request), training(request)] : [serving(request)];
}

function serving(request: PodRequest): Container {
  const { plan, settings } = request;
  const { argv, env } = servingLaunch(request);
  return {
    ...common("serving", servingImage(settings), request.name, { ...env, ...PROCESS_ENVIRONMENT }),
    command: argv.slice(0, 1),
    args: argv.slice(1),
    resources: resources(request, servingMemoryGiB(plan)),
    ...servingProbes(plan),
    volumeMounts: MOUNTS,
  };
}

/** Starts when vLLM answers, which measures the GPUs' memory while it is alone on them. */
function training(request: PodRequest): Container {
  const { plan, settings } = request;
  const { argv, env } = trainingLaunch(request);
  return {
    ...common("training", settings.kubernetes.images.training, request.name, { ...env, ...PROCESS_ENVIRONMENT }),
    command: ["python3", "/opt/tandem/bin/after_serving.py", String(plan.servingPort), "--"],
    args: argv,
    resources: resources(request, trainingMemoryGiB(plan)),
    ...trainingProbes(plan),
    volumeMounts: [...MOUNTS, TRAINER_MOUNT],
  };
}

/** Both in one container, since the device plugin gives a GPU to one container only. */
function pair(request: PodRequest): Container {
  const { plan, settings } = request;
  const one = servingLaunch(request);
  const two = trainingLaunch(request);
  const parts = {
    serving: { argv: one.argv, env: one.env, port: plan.servingPort },
    training: { argv: two.argv, env: two.env, port: plan.training.port },
  };
  return {
    ...common("pair", settings.kubernetes.images.training, request.name, {
      ...PROCESS_ENVIRONMENT,
      TANDEM_PAIR: JSON.stringify(parts),
    }),
    command: ["python3", "/opt/tandem/bin/pair.py"],
    resources: resources(request, servingMemoryGiB(plan) + trainingMemoryGiB(plan)),
    ...servingProbes(plan, PAIR_STOP_SECONDS),
    volumeMounts: [...MOUNTS, TRAINER_MOUNT],
  };
}

/** What must be there before vLLM starts: weights, with the access to them checked first, and environments where images lack them. */
export function initContainers(request: PodRequest): Container[] {
  const { plan, settings, name, sharing } = request;
  const trains = plan.training.backend !== "off";
  const { training: trainingImage } = settings.kubernetes.images;
  const isPath = plan.model.startsWith("/");
  const weights: Container = {
    ...common("weights", sharing.kind === "single-container" ? trainingImage : servingImage(settings), name, {
      ...PROCESS_ENVIRONMENT,
      TANDEM_WEIGHTS: JSON.stringify({
        source: isPath ? "directory" : "auto",
        model: plan.model,
        revision: plan.revision,
      }),
    }),
    command: ["sh", "/opt/tandem/bin/weights-in-pod.sh"],
    resources: { requests: { cpu: "1", memory: "2Gi" } },
    volumeMounts: MOUNTS,
  };
  const hub = {
    name: "HUB_TOKEN",
    valueFrom: { secretKeyRef: { name: `${name}-keys`, key: "hubToken", optional: true } },
  };
  const environment = (of: string, script: string, what: Record<string, string>): Container => ({
    ...common(of, trainingImage, name, { ...PROCESS_ENVIRONMENT, ...what }),
    command: ["sh", `/opt/tandem/bin/${script}`],
    resources: { requests: { cpu: "1", memory: "2Gi" } },
    volumeMounts: MOUNTS,
  });
  return [
    { ...weights, env: [...(weights["env"] as object[]), hub] },
    ...(trains
      ? [environment("trainer-environment", "trainer-environment.sh", { TANDEM_ENVIRONMENT: TRAINER_ENVIRONMENT })]
      : []),
    ...(sharing.kind === "single-container"
      ? [
          environment("vllm-environment", "vllm-environment.sh", {
            TANDEM_ENVIRONMENT: VLLM_ENVIRONMENT,
            TANDEM_VLLM_VERSION: settings.vllmVersion,
          }),
        ]
      : []),
  ];
}

function common(name: string, image: string, stack: string, env: Readonly<Record<string, string>>): Container {
  return {
    name,
    image,
    // A digest never means another image; a tag may, and a pod that is moved should get the one that its node has.
    imagePullPolicy: "IfNotPresent",
    // What a container said last stands in its status, where the wait and `kubectl describe` find it.
    terminationMessagePolicy: "FallbackToLogsOnError",
    securityContext: RESTRICTED,
    env: [
      ...Object.entries(env).map(([variable, value]) => ({ name: variable, value })),
      { name: "VLLM_API_KEY", valueFrom: { secretKeyRef: { name: `${stack}-keys`, key: "upstreamKey" } } },
    ],
  };
}

/** Whole GPUs as planned. On the CPU the memory is a limit as well: what is planned is what it may take. */
function resources({ plan, sharing }: PodRequest, memoryGiB: number): object {
  const memory = `${Math.ceil(memoryGiB)}Gi`;
  const gpus = plan.gpuIndices.length;
  switch (sharing.kind) {
    case "no-gpu":
      return { requests: { cpu: "1", memory }, limits: { memory } };
    case "device-plugin":
    case "single-container":
      return { requests: { cpu: String(cores(plan)), memory }, limits: { [GPU_RESOURCE]: String(gpus) } };
    case "dra":
      return { requests: { cpu: String(cores(plan)), memory }, claims: [{ name: CLAIM }] };
    default:
      return sharing satisfies never;
  }
}

/** One for each worker process, which polls its GPU, and one for the API. */
function cores(plan: Plan): number {
  return plan.gpuIndices.length + 1;
}

/** Python, CUDA's host side and pinned buffers of each worker, estimated; on the CPU what the plan says and a tenth more. */
function servingMemoryGiB(plan: Plan): number {
  if (plan.host !== undefined) return plan.host.servingGiB * 1.1 + 1;
  return 6 + 4 * plan.gpuIndices.length;
}

function trainingMemoryGiB(plan: Plan): number {
  if (plan.host !== undefined) return plan.host.trainingGiB * 1.1 + 1;
  return 6 + 4 * plan.training.tensorParallel;
}
