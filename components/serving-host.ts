import * as pulumi from "@pulumi/pulumi";
import type { PreparedHost } from "../bootstrap/runner/prepare";
import { modelSource, PACKAGED_MODEL } from "../bootstrap/runner/model";
import { PROOF_TIMEOUT_SECONDS, proofDocument, type ProofResult } from "../bootstrap/runner/proof";
import { launchServing, type RuntimeFacts } from "../plan/launch";
import { launchTraining } from "../plan/launch-training";
import { cacheAtDestroy, isExclusive } from "../plan/lease-defaults";
import type { Settings } from "../plan/settings";
import type { ApiKeys } from "./api-keys";
import { Gateway } from "./gateway";
import { HostStep } from "./host-step";
import { NvidiaDriver } from "./nvidia-driver";

/** Results of the host steps, as their scripts print them. */
interface LeaseResult {
  readonly leaseId: string;
  /** ISO 8601. */
  readonly createdAt: string;
}
interface WeightsResult {
  readonly path: string;
  readonly bytes: number;
  readonly digest: string;
}
interface ServingResult {
  readonly unitId: string;
  readonly port: number;
}

/** Taking a host takes a second; giving it back may remove a driver and build the boot image anew. */
const LEASE_TIMEOUT_SECONDS = 900;
/** Installing the runtime downloads up to 10 GB; an hour is enough at 25 Mbit/s. */
const RUNTIME_TIMEOUT_SECONDS = 3600;
/** Weights of the largest models are hundreds of GB; the download resumes when the limit cuts it. */
const WEIGHTS_TIMEOUT_SECONDS = 4 * 3600;
/** PyTorch and what goes with it, up to 8 GB. */
const TRAINER_TIMEOUT_SECONDS = 3600;
const STOP_SECONDS = 30;
/** A file and a unit. */
const SPOT_TIMEOUT_SECONDS = 120;

export interface ServingHostArgs extends PreparedHost {
  /** The launch of a rented machine: the host ends with it, so nothing is taken back on the machine itself. */
  readonly launch?: pulumi.Resource;
  readonly settings: Settings;
  readonly keys: ApiKeys;
}

/** vLLM serving a model on one host, proven by a generated token. */
export class ServingHost extends pulumi.ComponentResource {
  /** Name that clients call the model by. */
  readonly servedModelName: string;
  /** What was measured after the start, compared with the plan. */
  readonly proven: pulumi.Output<ProofResult>;
  /** When the stack took the host, ISO 8601. */
  readonly startedAt: pulumi.Output<string>;

  /** @param name the host's steps are called `<name>-<step>` */
  constructor(name: string, args: ServingHostArgs, opts: pulumi.ComponentResourceOptions = {}) {
    super("tandem:index:ServingHost", name, {}, opts);
    this.servedModelName = args.plan.model;
    const { launch } = args;
    const child = (...dependsOn: pulumi.Resource[]) => ({ parent: this, dependsOn, deletedWith: launch });

    const lease = this.lease(name, args, launch === undefined ? child() : child(launch));
    // A rented machine armed its own timer at its first boot.
    const expiry = launch === undefined ? this.expiry(name, args, child(lease)) : undefined;
    // A host that serves on its CPU is asked nothing about drivers.
    const driver = args.plan.device === "cuda" ? new NvidiaDriver(name, args, child(expiry ?? lease)) : undefined;
    const runtime = this.runtime(name, args, child(driver ?? expiry ?? lease));
    const weights = this.weights(name, args, runtime, child(runtime));
    const serving = this.serving(name, args, { driver, runtime, weights }, child(weights));
    const training =
      args.settings.training.backend === "off"
        ? undefined
        : this.training(name, args, { weights, serving }, child(serving));
    if (args.host.target.kind === "ssh" && args.host.target.instance?.isSpot === true)
      this.spot(name, args, child(lease));
    this.startedAt = lease.result.apply((result) => result.createdAt);
    const gateway = args.settings.gateway.enabled
      ? new Gateway(name, { ...args, startedAt: this.startedAt }, child(training ?? serving))
      : undefined;
    const proof = this.proof(name, args, { serving, training, gateway }, child(gateway ?? training ?? serving));

    this.proven = proof.result;
    this.registerOutputs({ startedAt: this.startedAt });
  }

  private lease(
    name: string,
    { host, settings }: ServingHostArgs,
    opts: pulumi.CustomResourceOptions,
  ): HostStep<LeaseResult> {
    const document = {
      stack: host.stack,
      exclusive: isExclusive(settings),
      gpus: settings.devices,
      cache: cacheAtDestroy(settings),
    };
    return new HostStep<LeaseResult>(
      `${name}-lease`,
      { host, step: "lease", document, timeoutSeconds: LEASE_TIMEOUT_SECONDS },
      opts,
    );
  }

  /** Stops training with a checkpoint when the cloud says that it takes the machine back. */
  private spot(name: string, { host }: ServingHostArgs, opts: pulumi.CustomResourceOptions): HostStep<object> {
    return new HostStep<object>(
      `${name}-spot`,
      { host, step: "spot", document: {}, timeoutSeconds: SPOT_TIMEOUT_SECONDS },
      opts,
    );
  }

  /** Ends the stack on its host when its time is over, whatever becomes of the client. */
  private expiry(
    name: string,
    { host, plan }: ServingHostArgs,
    opts: pulumi.CustomResourceOptions,
  ): HostStep<object> | undefined {
    const { ttlSeconds } = plan.cost;
    if (ttlSeconds === undefined) return undefined;
    return new HostStep<object>(
      `${name}-expiry`,
      { host, step: "expiry", document: { ttlSeconds }, timeoutSeconds: LEASE_TIMEOUT_SECONDS },
      opts,
    );
  }

  private runtime(name: string, args: ServingHostArgs, opts: pulumi.CustomResourceOptions): HostStep<RuntimeFacts> {
    const { host, settings, plan } = args;
    const document = {
      kind: settings.runtime,
      device: plan.device,
      vllmVersion: settings.vllmVersion,
      path: settings.runtimePath,
      image: settings.runtimeImage,
    };
    return new HostStep<RuntimeFacts>(
      `${name}-runtime`,
      { host, step: "runtime", document, timeoutSeconds: RUNTIME_TIMEOUT_SECONDS },
      opts,
    );
  }

  private weights(
    name: string,
    { host, settings }: ServingHostArgs,
    runtime: HostStep<RuntimeFacts>,
    opts: pulumi.CustomResourceOptions,
  ): HostStep<WeightsResult> {
    const source = modelSource(settings.model, host.target);
    const document = runtime.result.apply(({ python, container }) => ({
      source: source.kind === "hub" ? "auto" : source.kind,
      model: source.location,
      revision: settings.revision,
      python,
      fallbackPackage: settings.model === PACKAGED_MODEL,
      ...(container && { engine: container.engine, engineKind: container.kind, image: container.image }),
    }));
    const secrets = settings.hubToken === undefined ? undefined : { hubToken: settings.hubToken };
    return new HostStep<WeightsResult>(
      `${name}-weights`,
      { host, step: "weights", document, secrets, timeoutSeconds: WEIGHTS_TIMEOUT_SECONDS },
      opts,
    );
  }

  private serving(
    name: string,
    { host, plan, settings, keys }: ServingHostArgs,
    needs: { driver?: NvidiaDriver; runtime: HostStep<RuntimeFacts>; weights: HostStep<WeightsResult> },
    opts: pulumi.CustomResourceOptions,
  ): HostStep<ServingResult> {
    const results = pulumi.all([needs.runtime.result, needs.weights.result, needs.driver?.result]);
    const document = results.apply(([runtime, weights, driver]) => {
      const launch = launchServing(plan, runtime, {
        modelPath: weights.path,
        servedModelName: this.servedModelName,
        host: "127.0.0.1",
        port: plan.servingPort,
        extraArgs: settings.serving.extraArgs,
        extraEnv: settings.serving.extraEnv,
        facts: host.facts,
      });
      for (const warning of launch.warnings) void pulumi.log.warn(warning, this);
      return {
        argv: launch.argv,
        env: launch.env,
        ...(launch.container && { container: launch.container, python: runtime.python }),
        // Told again while it runs, so that a better figure does not start it anew.
        ...(plan.footprint && { footprintKey: plan.footprint.startKey, footprintGiB: plan.footprint.besideKvGiB }),
        port: plan.servingPort,
        // Damaged weights that were fetched again get a new digest: vLLM has to read them anew.
        weightsDigest: weights.digest,
        // Another driver was put in place with vLLM stopped: it has to be started again.
        driverVersion: driver?.version,
        startupSeconds: plan.startup.timeoutSeconds,
        stopSeconds: STOP_SECONDS,
      };
    });
    return new HostStep<ServingResult>(
      `${name}-serving`,
      {
        host,
        step: "serving",
        document,
        secrets: keys.upstream.apply((apiKey) => ({ apiKey })),
        timeoutSeconds: plan.startup.timeoutSeconds + 4 * STOP_SECONDS,
      },
      opts,
    );
  }

  /** After vLLM, which measures the GPUs' memory while it is alone on them. */
  private training(
    name: string,
    { host, plan, settings, keys }: ServingHostArgs,
    needs: { weights: HostStep<WeightsResult>; serving: HostStep<ServingResult> },
    opts: pulumi.CustomResourceOptions,
  ): HostStep<ServingResult> {
    const { backend, runtimePath } = settings.training;
    const trainer = new HostStep<{ readonly python: string }>(
      `${name}-trainer`,
      {
        host,
        step: "trainer",
        document: { backend, device: plan.device, path: runtimePath },
        timeoutSeconds: TRAINER_TIMEOUT_SECONDS,
      },
      opts,
    );
    const results = pulumi.all([trainer.result, needs.weights.result, needs.serving.result]);
    const document = results.apply(([{ python }, weights, serving]) => ({
      ...launchTraining(plan, {
        python,
        modelPath: weights.path,
        servedModelName: this.servedModelName,
        settings,
        // In a container it sees the host's /dev/shm and not its disk.
        sharesDisk: settings.runtime !== "container",
        facts: host.facts,
      }),
      port: plan.training.port,
      weightsDigest: weights.digest,
      // vLLM that was started again stopped the trainer first.
      servingUnitId: serving.unitId,
      // It loads the same weights that vLLM does.
      startupSeconds: plan.startup.timeoutSeconds,
      stopSeconds: STOP_SECONDS,
    }));
    return new HostStep<ServingResult>(
      `${name}-training`,
      {
        host,
        step: "training",
        document,
        secrets: keys.upstream.apply((apiKey) => ({ apiKey })),
        timeoutSeconds: plan.startup.timeoutSeconds + 4 * STOP_SECONDS,
      },
      { ...opts, dependsOn: trainer },
    );
  }

  private proof(
    name: string,
    { host, plan, keys }: ServingHostArgs,
    needs: { serving: HostStep<ServingResult>; training?: HostStep<ServingResult>; gateway?: Gateway },
    opts: pulumi.CustomResourceOptions,
  ): HostStep<ProofResult> {
    const units = pulumi.all([needs.serving.result, needs.training?.result, needs.gateway?.result]);
    const document = units.apply(([serving, training, gateway]) =>
      proofDocument({
        plan,
        servedModelName: this.servedModelName,
        unitId: serving.unitId,
        deep: training !== undefined,
        trainingUnitId: training?.unitId,
        gateway,
      }),
    );
    return new HostStep<ProofResult>(
      `${name}-proof`,
      {
        host,
        step: "proof",
        document,
        secrets: keys.upstream.apply((apiKey) => ({ apiKey })),
        timeoutSeconds: PROOF_TIMEOUT_SECONDS,
      },
      opts,
    );
  }
}
