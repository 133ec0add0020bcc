import { z } from "zod";
import { ADAPTER_RANKS } from "./adapter-ranks";
import { ec2Settings } from "./settings-ec2";
import { gatewaySettings } from "./settings-gateway";
import { kubernetesSettings } from "./settings-kubernetes";
import { servingSettings, trainingSettings } from "./settings-services";
import { sshSettings } from "./settings-targets";
import { setting } from "./setting";
import { SPLIT_PRESETS } from "./split-presets";

const count = z.number().int().min(1);

/** A list of GPU indices, or the form that CUDA_VISIBLE_DEVICES takes. */
const devices = z
  .union([
    z.array(z.number().int().min(0)).min(1),
    z
      .string()
      .regex(/^\s*\d+\s*(,\s*\d+\s*)*$/)
      .transform((list) => list.split(",").map(Number)),
    z
      .number()
      .int()
      .min(0)
      .transform((index) => [index]),
  ])
  .refine((list) => new Set(list).size === list.length, "names a GPU twice");

const share = z.number().min(0.05).max(0.95);

const split = z
  .union([
    z.enum(["inference-heavy", "balanced", "training-heavy"]),
    share,
    z.strictObject({ serving: share, training: share.optional() }),
  ])
  .default("balanced");

/** Settings of the adapters that vLLM serves. */
const loraSettings = z
  .strictObject({
    enabled: setting(z.boolean().default(true), {
      doc: "Serve LoRA adapters beside the base model. Their slots take memory whether used or not.",
      allowed: "true or false",
      example: true,
    }),
    maxAdapters: setting(z.number().int().min(1).max(512).default(8), {
      doc: "How many adapters one batch may use at once. Each takes a slot of `lora.maxRank` on every GPU.",
      allowed: "a whole number from 1 to 512",
      example: 8,
    }),
    maxRank: setting(
      z
        .number()
        .int()
        .refine((rank) => (ADAPTER_RANKS as readonly number[]).includes(rank))
        .default(64),
      {
        doc: "The largest adapter rank. An adapter of a higher rank is refused; a slot takes its memory in proportion to this.",
        allowed: ADAPTER_RANKS.join(", "),
        example: 64,
      },
    ),
  })
  .prefault({});

/** Settings of the machine's NVIDIA driver. */
const driverSettings = z
  .strictObject({
    policy: setting(z.enum(["keep", "ensure"]).default("keep"), {
      doc: "`keep` leaves the driver alone and says what is missing; `ensure` installs one where none is good enough, and reboots where that is needed. A good driver is never touched.",
      allowed: "keep or ensure",
      example: "keep",
    }),
    branch: setting(z.number().int().min(450).max(999).default(580), {
      doc: "The driver branch that `ensure` installs where there is no good driver. Runtimes built for CUDA 13 need 580 or newer.",
      allowed: "a driver branch from 450, as a whole number",
      example: 580,
    }),
    reboot: setting(z.boolean().default(true), {
      doc: "Whether `ensure` may reboot a machine that is reached by SSH. `target: local` never reboots: it says so and stops.",
      allowed: "true or false",
      example: true,
    }),
    onDestroy: setting(z.enum(["keep", "remove"]).default("keep"), {
      doc: "What becomes of a driver that `ensure` installed: it stays and is listed, or its packages are removed. One that replaced another always stays.",
      allowed: "keep or remove",
      example: "keep",
    }),
    repository: setting(
      z
        .string()
        .regex(/^(https:\/\/|file:\/\/\/)\S+[^\s/]$/)
        .optional(),
      {
        doc: "A mirror of NVIDIA's package repositories for CUDA, as the host reaches it: what stands before `/debian12/x86_64`.",
        allowed: "an address that starts with https:// or file:///, without a slash at its end",
        otherwise: "NVIDIA's own",
        example: "https://mirror.example.com/compute/cuda/repos",
      },
    ),
  })
  .prefault({});

/** Every setting of a stack. The types, the defaults, the error messages and `docs/settings.md` come from here. */
export const settingsSchema = z.strictObject({
  model: setting(z.string().trim().min(1).default("HuggingFaceTB/SmolLM2-135M-Instruct"), {
    doc: "The model to serve: an id on the model hub, a directory, or an archive (`.tar`, `.tar.gz`, `.tar.zst`) that holds one.",
    allowed: "owner/name on the hub, or a path that starts with /, ./ or ~/",
    example: "meta-llama/Llama-3.2-1B",
  }),
  revision: setting(z.string().trim().min(1).default("main"), {
    doc: "Branch, tag or commit of the model on the hub. A commit makes two runs serve the same weights.",
    allowed: "a branch, a tag or a commit",
    example: "main",
  }),
  hubToken: setting(z.string().min(1).optional(), {
    doc: "Token for the model hub, for models that are gated (Llama is) or private. `--hub-token @FILE` reads it from a file. Encrypted in the state, never in a log.",
    allowed: "a token of the hub",
    example: "hf_…",
    secret: true,
  }),
  target: setting(z.enum(["local", "ssh", "ec2", "kubernetes"]).default("local"), {
    doc: "Where to serve: this machine, a machine reached by SSH, new EC2 instances, or a Kubernetes cluster.",
    allowed: "local, ssh, ec2 or kubernetes",
    example: "local",
  }),
  ssh: sshSettings,
  ec2: ec2Settings,
  kubernetes: kubernetesSettings,
  port: setting(z.number().int().min(1).max(65535).default(8000), {
    doc: "Port of the API. The service listens on loopback; `exposure` says how it is reached from elsewhere.",
    allowed: "a whole number from 1 to 65535",
    example: 8000,
  }),
  gpus: setting(z.union([z.literal("all"), z.number().int().min(0).max(1024)]).default("all"), {
    doc: "How many GPUs to use. `all` takes what is there, and the CPU on a machine without any; 0 takes the CPU.",
    allowed: "all, or a whole number from 0",
    example: 4,
  }),
  devices: setting(devices.optional(), {
    doc: "Which GPUs to use, by the index that `nvidia-smi` shows.",
    allowed: 'a list of GPU indices, each once, such as [0, 1] or "0,1"',
    otherwise: "the first `gpus` GPUs",
    example: [0, 1],
  }),
  gpuType: setting(z.string().trim().min(1).optional(), {
    doc: "Which GPUs to plan for when there is no machine to look at. A machine's own GPUs win over it.",
    allowed: "a name of the catalogue, such as h100-80gb; `tandem plan --gpu-type help` lists them",
    otherwise: "the GPUs that the machine has",
    example: "h100-80gb",
  }),
  tensorParallel: setting(z.union([z.literal("auto"), count]).default("auto"), {
    doc: "Over how many GPUs one copy of the model is spread. `auto` takes the smallest size that fits and leaves a useful KV cache.",
    allowed: "auto, or a whole number that the model's heads can be divided by",
    example: "auto",
  }),
  replicas: setting(z.union([z.literal("auto"), count]).default("auto"), {
    doc: "How many copies of the model answer behind the one address. `auto` fills the GPUs that tensor parallelism leaves.",
    allowed: "auto, or a whole number from 1",
    example: "auto",
  }),
  pipelineParallel: setting(count.default(1), {
    doc: "Over how many groups of GPUs the layers of one copy are spread, one group after the other.",
    allowed: "a whole number from 1 to the number of layers",
    example: 1,
  }),
  split: setting(split, {
    doc:
      `How each GPU's memory is shared: ${Object.entries(SPLIT_PRESETS)
        .map(([name, value]) => `\`${name}\` gives serving ${value}`)
        .join(", ")}. ` +
      "The shares are of the total that `nvidia-smi` shows, and serving's share is vLLM's whole footprint.",
    allowed: "inference-heavy, balanced, training-heavy, or shares from 0.05 to 0.95 that add up to 1 at most",
    example: { serving: 0.4 },
  }),
  lora: loraSettings,
  training: trainingSettings,
  serving: servingSettings,
  runtime: setting(z.enum(["container", "venv", "archive", "existing"]).default("venv"), {
    doc: "What vLLM runs in: a container, a Python environment made here, one unpacked from an archive, or one that exists.",
    allowed: "container, venv, archive or existing",
    example: "venv",
  }),
  runtimePath: setting(z.string().min(1).optional(), {
    doc: "The archive of `runtime: archive`, or the Python interpreter of `runtime: existing` that has vLLM.",
    allowed: "a path",
    example: "/opt/vllm/bin/python",
  }),
  runtimeImage: setting(
    z
      .string()
      .regex(/^(\/\S+|[a-z0-9][\w.:/@-]*)$/)
      .optional(),
    {
      doc: "The image of `runtime: container`: a reference, or the path of an image archive on the machine (`docker save`) for machines without a registry. Its `python3` must have vLLM.",
      allowed: "a reference such as registry/name:tag or name@sha256:…, or an absolute path",
      otherwise: "`docker.io/vllm/vllm-openai` of `vllmVersion`; on the CPU there is no usual one",
      example: "/srv/vllm-openai.tar",
    },
  ),
  vllmVersion: setting(
    z
      .string()
      .regex(/^0\.(2[6-9]|3[0-3])\.\d+$/)
      .default("0.32.0"),
    {
      doc: "The version of vLLM that is installed.",
      allowed: "a version from 0.26.0 to 0.33.x",
      example: "0.32.0",
    },
  ),
  driver: driverSettings,
  exclusive: setting(z.boolean().optional(), {
    doc:
      "Whether the machine is for this stack alone: a machine that another stack holds, or on whose GPUs other people's programs run, " +
      "is then refused, and so is another stack that comes later.",
    allowed: "true or false",
    otherwise: "true on ssh and ec2, false on local",
    example: false,
  }),
  cache: setting(z.enum(["keep", "remove"]).optional(), {
    doc:
      "What becomes of runtimes and weights that the stack brought to the machine when it is destroyed. What was there before, " +
      "or what another stack uses, stays in any case.",
    allowed: "keep or remove",
    otherwise: "`remove` on ssh and kubernetes, so that what is borrowed is given back as it was; `keep` elsewhere",
    example: "keep",
  }),
  exposure: setting(z.enum(["loopback", "tunnel", "private", "public"]).optional(), {
    doc: "How the API is reached: only on the machine itself, by an SSH tunnel, on the private network, or publicly with TLS.",
    allowed: "loopback, tunnel, private or public",
    otherwise: "`loopback` on local, `tunnel` elsewhere",
    example: "tunnel",
  }),
  gateway: gatewaySettings,
  ttl: setting(
    z
      .string()
      .regex(/^[1-9]\d*[mhd]$/)
      .optional(),
    {
      doc:
        "When the stack ends by itself, whatever became of whoever started it: rented machines shut down and are gone, from machines of yours " +
        "it is swept by a timer of their own. `tandem extend` moves the end.",
      allowed: "a number of minutes, hours or days, such as 90m, 4h or 2d",
      otherwise: "it lives until it is destroyed; `tandem ephemeral` takes 2h",
      example: "4h",
    },
  ),
  maxPricePerHourUsd: setting(z.number().positive().optional(), {
    doc: "The highest price of all rented machines together in US dollars an hour. What costs more is not tried, and AWS is told this limit too.",
    allowed: "a number above 0",
    example: 12.5,
  }),
  budgetUsd: setting(z.number().positive().optional(), {
    doc: "The most that the stack may cost in US dollars until it ends. Without `ttl` it says when that is; with one that costs more, nothing is made.",
    allowed: "a number above 0",
    example: 50,
  }),
});
