import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { local } from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import type { LaunchRequest, LaunchResult } from "../bootstrap/cloud/launch-request";
import type { ClusterHold } from "../bootstrap/kubernetes/gone";
import type { ClusterStepRequest } from "../bootstrap/kubernetes/prove";
import { packageRoot } from "../bootstrap/runner/package-root";
import type { StepName, StepRequest } from "../bootstrap/runner/request";
import type { Host } from "../bootstrap/runner/observe";
import type { ProofResult } from "../bootstrap/runner/proof";

export interface HostStepArgs {
  readonly host: Host;
  readonly step: StepName;
  /** Structured input of the step's script. */
  readonly document?: pulumi.Input<unknown>;
  /** Reach the script on standard input only; encrypted in the state. */
  readonly secrets?: pulumi.Input<Record<string, string>>;
  /** Limit of the whole step, in seconds. */
  readonly timeoutSeconds: number;
}

/**
 * One step on one host: a command that starts our runner, which hands the request to the step's script.
 * @typeParam Result what the script prints as its last line
 */
export class HostStep<Result extends object> extends local.Command {
  /** The step's result; unknown in a preview that will apply it. */
  readonly result: pulumi.Output<Result>;

  constructor(name: string, args: HostStepArgs, opts: pulumi.CustomResourceOptions = {}) {
    const { host, step } = args;
    super(
      name,
      {
        create: runnerCommand("apply"),
        update: runnerCommand("apply"),
        delete: runnerCommand("undo"),
        stdin: requestJson(args),
        environment: { TANDEM_REPAIR: host.tokens[step] },
        // A failed command's message holds everything it printed; progress goes to standard error, the result is ours to read.
        logging: local.Logging.Stderr,
        addPreviousOutputInEnv: false,
      },
      // A host that could not be asked has no token to give: that must not look like a change.
      host.unreachableBecause === undefined ? opts : pulumi.mergeOptions(opts, { ignoreChanges: ["environment"] }),
    );
    this.result = this.stdout.apply((stdout) => JSON.parse(stdout) as Result);
  }
}

/** A new 256-bit API key, made once for the stack and kept as a secret in its state. */
export class ApiKey extends local.Command {
  readonly value: pulumi.Output<string>;

  constructor(name: string, opts: pulumi.CustomResourceOptions = {}) {
    super(
      name,
      { create: runnerCommand("key"), logging: local.Logging.None, addPreviousOutputInEnv: false },
      // Any change would run `create` again and make another key, so none is ever seen.
      pulumi.mergeOptions(opts, {
        additionalSecretOutputs: ["stdout"],
        ignoreChanges: ["create", "logging", "addPreviousOutputInEnv"],
      }),
    );
    this.value = pulumi.secret(this.stdout);
  }
}

export interface MachineLaunchArgs {
  readonly request: pulumi.Input<LaunchRequest>;
  /** The mark of the launch. Not taken from the request, which is not known in a preview that changes the template. */
  readonly launch: string;
  /** Why machines have to be launched; absent when all are there. */
  readonly reason?: string;
}

/**
 * The launch of rented machines. Another mark of the launch means other machines: the new ones are there, and the host steps on
 * them applied, before the old ones end. Machines that are missing are launched again in place.
 */
export class MachineLaunch extends local.Command {
  /** Unknown in a preview that will launch. */
  readonly result: pulumi.Output<LaunchResult>;

  constructor(name: string, { request, launch, reason }: MachineLaunchArgs, opts: pulumi.CustomResourceOptions = {}) {
    super(
      name,
      {
        create: runnerCommand("launch"),
        update: runnerCommand("launch"),
        // It ends the machines that the launch handed on, and no others.
        delete: runnerCommand("end-launch"),
        stdin: pulumi.output(request).apply((value) => JSON.stringify(value)),
        triggers: [launch],
        environment: { TANDEM_REPAIR: `${reason ?? "as it was"} #${randomBytes(4).toString("hex")}` },
        logging: local.Logging.Stderr,
      },
      reason === undefined ? pulumi.mergeOptions(opts, { ignoreChanges: ["environment"] }) : opts,
    );
    this.result = this.stdout.apply((stdout) => JSON.parse(stdout) as LaunchResult);
  }
}

/**
 * A stack's hold on a cluster: the first resource and the last to go. Its end proves that nothing of the stack is left.
 */
export class ClusterTaken extends local.Command {
  /** ISO 8601; made once, so that a second run changes nothing. */
  readonly createdAt: pulumi.Output<string>;

  constructor(name: string, hold: ClusterHold, opts: pulumi.CustomResourceOptions = {}) {
    const { target } = hold;
    super(
      name,
      {
        create: runnerCommand("cluster-hold"),
        // Only what its end looks at has changed; the start stays what it was.
        update: `printf '%s\\n' "$PULUMI_COMMAND_STDOUT"`,
        delete: runnerCommand("cluster-gone"),
        stdin: JSON.stringify(hold),
        // Another cluster or another namespace: what was held there ends after the new one works.
        triggers: [target.kubeconfig ?? "", target.context ?? "", hold.namespace, hold.name],
        logging: local.Logging.Stderr,
      },
      pulumi.mergeOptions(opts, { ignoreChanges: ["create", "delete"] }),
    );
    this.createdAt = this.stdout.apply((stdout) => (JSON.parse(stdout) as { createdAt: string }).createdAt);
  }
}

export interface ClusterProvenArgs {
  readonly request: pulumi.Input<ClusterStepRequest>;
  /** Why the proof is due though nothing was changed; absent when the pods are as they were. */
  readonly reason?: string;
}

/** Waits for the pods of a stack, says meanwhile what keeps them, and proves each. */
export class ClusterProven extends local.Command {
  readonly results: pulumi.Output<ProofResult[]>;

  constructor(name: string, { request, reason }: ClusterProvenArgs, opts: pulumi.CustomResourceOptions = {}) {
    super(
      name,
      {
        create: runnerCommand("cluster-proof"),
        update: runnerCommand("cluster-proof"),
        stdin: pulumi.secret(pulumi.output(request).apply((value) => JSON.stringify(value))),
        environment: { TANDEM_REPAIR: `${reason ?? "as it was"} #${randomBytes(4).toString("hex")}` },
        logging: local.Logging.Stderr,
        addPreviousOutputInEnv: false,
      },
      reason === undefined ? pulumi.mergeOptions(opts, { ignoreChanges: ["environment"] }) : opts,
    );
    this.results = this.stdout.apply((stdout) => JSON.parse(stdout) as ProofResult[]);
  }
}

/**
 * The command line for our runner. The path is part of the state, and the state outlives the folder it names:
 * `tandem destroy` sets TANDEM_RUNNER to the runner of the version that destroys.
 */
function runnerCommand(verb: RunnerVerb): string {
  const runner = join(packageRoot(), "bin", "tandem-runner").replaceAll("'", `'\\''`);
  return `runner='${runner}'; exec "\${TANDEM_RUNNER:-$runner}" ${verb}`;
}

type RunnerVerb =
  "apply" | "undo" | "key" | "launch" | "end-launch" | "cluster-hold" | "cluster-proof" | "cluster-gone";

/** The request as JSON; secret as a whole where it holds secrets. */
function requestJson({ host, step, document, secrets, timeoutSeconds }: HostStepArgs): pulumi.Output<string> {
  const withoutSecrets: Omit<StepRequest, "document" | "secrets"> = {
    target: host.target,
    stack: host.stack,
    step,
    values: {},
    timeoutSeconds,
  };
  const json = pulumi
    .all([document, secrets])
    .apply(([document, secrets]) => JSON.stringify({ ...withoutSecrets, document, secrets } satisfies StepRequest));
  return secrets === undefined ? json : pulumi.secret(json);
}
