import { nextAdapterRank } from "./adapter-ranks";
import { ec2Problems } from "./ec2-ladder";
import { kubernetesProblems } from "./kubernetes-rules";
import type { Problem } from "./problem";
import type { Settings } from "./settings";
import { GATEWAY_RULES } from "./gateway-rules";
import { whereReadable } from "./settings-partial";
import { sameNames, sshHosts } from "./ssh-hosts";

/**
 * Problems between settings that are each right on their own. Each rule looks at valid settings and says what is wrong, if anything; one that
 * reads a setting which is `unreadable`, since it is wrong, says nothing.
 */
export function crossProblems(settings: Settings): readonly Problem[] {
  return RULES.flatMap((rule) => whereReadable(() => rule(settings)) ?? []);
}

const RULES: readonly ((settings: Settings) => Problem | readonly Problem[] | undefined)[] = [
  ...GATEWAY_RULES,
  ({ split }) =>
    split.serving + split.training > 1 + 1e-9
      ? {
          setting: "split",
          what: "the two shares add up to more than 1",
          value: `serving ${split.serving} + training ${split.training}`,
          allowed: "a sum of 1 at most",
          fix: `lower \`split.training\` to ${Math.round((1 - split.serving) * 1000) / 1000} or leave it out`,
        }
      : undefined,
  ({ devices, gpus }) =>
    devices !== undefined && gpus !== "all" && gpus !== devices.length
      ? {
          setting: "devices",
          what: "names another number of GPUs than `gpus` asks for",
          value: `${devices.length} devices, gpus ${gpus}`,
          fix: `leave one of the two out, or set \`gpus\` to ${devices.length}`,
        }
      : undefined,
  ({ training, lora }) =>
    training.backend !== "off" && !lora.enabled
      ? {
          setting: "lora.enabled",
          what: "training makes adapters, and serving them is switched off",
          value: "false",
          fix: "set `lora.enabled` to true, or `training.backend` to off",
        }
      : undefined,
  ({ training, lora }) =>
    training.backend !== "off" && lora.enabled && training.rank !== undefined && training.rank > lora.maxRank
      ? {
          setting: "training.rank",
          what: "an adapter of this rank could not be served",
          value: String(training.rank),
          allowed: `at most lora.maxRank, which is ${lora.maxRank}`,
          fix: `raise \`lora.maxRank\` to ${nextAdapterRank(training.rank)}, or train with rank ${lora.maxRank}`,
        }
      : undefined,
  ({ training }) =>
    training.backend === "huggingface" && training.tensorParallel !== "auto" && training.tensorParallel > 1
      ? {
          setting: "training.tensorParallel",
          what: "Hugging Face's PEFT trains with the whole model on one device",
          value: String(training.tensorParallel),
          allowed: "auto or 1",
          fix: "set `training.backend` to megatron-bridge, or `training.tensorParallel` to auto",
        }
      : undefined,
  ({ runtime, runtimePath }) =>
    (runtime === "existing" || runtime === "archive") && runtimePath === undefined
      ? {
          setting: "runtimePath",
          what: `is missing, and \`runtime: ${runtime}\` needs it`,
          allowed: runtime === "existing" ? "the path of a Python that has vLLM" : "the path of the archive",
          fix: "set `runtimePath`, or `runtime` to venv",
        }
      : undefined,
  ({ runtime, runtimeImage }) =>
    runtimeImage !== undefined && runtime !== "container"
      ? {
          setting: "runtimeImage",
          what: `is given, and \`runtime: ${runtime}\` takes no image`,
          value: runtimeImage,
          fix: "set `runtime` to container, or leave `runtimeImage` out",
        }
      : undefined,
  ({ runtime, runtimeImage, gpus }) =>
    runtime === "container" && runtimeImage === undefined && gpus === 0
      ? {
          setting: "runtimeImage",
          what: "is missing, and the usual image of vLLM is for GPUs",
          fix: "set it to an image that has vLLM for the CPU, or `runtime` to venv",
        }
      : undefined,
  (settings) => missingBlock(settings, "ssh", settings.ssh?.hosts === undefined, "ssh.hosts"),
  (settings) => {
    const [name] = sameNames(sshHosts(settings));
    return name === undefined
      ? undefined
      : {
          setting: "ssh.hosts",
          what: `two machines are called ${name}, and a machine's name names its resources`,
          fix: `write them as objects with a \`name\` of their own`,
        };
  },
  (settings) =>
    missingBlock(
      settings,
      "ec2",
      settings.ec2 === undefined,
      "ec2.region, and `ec2.instanceTypes` or a wish such as `gpus: 4`",
    ),
  ec2Problems,
  kubernetesProblems,
];

function missingBlock(
  settings: Settings,
  target: Settings["target"],
  missing: boolean,
  needs: string,
): Problem | undefined {
  if (settings.target !== target || !missing) return undefined;
  return { setting: target, what: `is missing, and \`target: ${target}\` needs it`, fix: `set ${needs}` };
}
