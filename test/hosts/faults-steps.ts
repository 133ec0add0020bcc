import { spawn } from "node:child_process";
import { copyFileSync, existsSync } from "node:fs";
import * as path from "node:path";
import { sweepHost } from "../../bootstrap/runner/host";
import { readChecks } from "../../bootstrap/runner/read-host";
import type { SshTarget, StepRequest } from "../../bootstrap/runner/request";
import { closeConnections } from "../../bootstrap/runner/ssh-connection";
import { applyStep } from "../../bootstrap/runner/step";
import type { TestHost } from "../fixtures/hosts/hosts";
import { gatewayDocumentOf } from "../gateway/gateway-document";
import { answerOf } from "../host/host";
import { SUPPLIES_ON_HOST, tracesOn } from "./deployment";
import type { FaultStep } from "./faults-cases";

const root = path.resolve(__dirname, "../..");

/** The key of the stand-in's API in these tests. It may appear nowhere. */
export const CANARY = `tdm-canary-${"k".repeat(24)}`;
const PORT = 8000;
const GATEWAY_PORT = 8080;
const FREEZE_SECONDS = 60;

/** Where each step is caught; see faults_middle.py. */
const MIDDLE: Readonly<Record<FaultStep, string>> = {
  // It looks at all of the host, which takes a tenth of a second.
  lease: "start:/usr/bin/dpkg-query",
  driver: "process:dpkg .*(--unpack|--configure)",
  runtime: "log:compiling bytecode",
  weights: "process:weights\\.py apply",
  serving: "log:starting vLLM",
  gateway: "log:starting the gateway",
  proof: "process:prove\\.py",
};

/** The host's side channel, for catching the work of a step in its middle. */
export class Middle {
  constructor(readonly host: TestHost) {
    copyFileSync(path.join(__dirname, "faults_middle.py"), path.join(host.root, "root/faults_middle.py"));
  }

  /** Begins to look for the middle of a step. @returns a promise of the moment from which the work stands still */
  async watch(step: FaultStep, where = MIDDLE[step]): Promise<{ readonly caught: Promise<void> }> {
    const command = `python3 /root/faults_middle.py freeze ${step} '${where}' ${FREEZE_SECONDS}`;
    const caught = this.host.exec(command, FREEZE_SECONDS + 20).then(() => undefined);
    let isOver = false;
    const over = () => (isOver = true);
    caught.then(over, over);
    const watching = path.join(this.host.root, "root/watching");
    while (!isOver && !existsSync(watching)) await new Promise((resolve) => setTimeout(resolve, 20));
    return { caught };
  }

  async thaw(): Promise<void> {
    await this.host.exec("python3 /root/faults_middle.py thaw");
  }
}

/** The real steps of one stack on one host, over real SSH; vLLM is the stand-in. */
export class StepsOnHost {
  readonly lines: string[] = [];
  readonly middle: Middle;
  /** The model's archive. */
  model = "model.tar";
  private results: Partial<Record<FaultStep, Record<string, unknown>>> = {};
  /** Every target that was used, for the connections to be closed. */
  private readonly used: SshTarget[] = [];

  /** Where the gateway listens. */
  gatewayPort = GATEWAY_PORT;

  /**
   * @param driver the driver step's document and values, where the host is to have one
   * @param hasGateway whether a gateway stands in front
   */
  constructor(
    readonly host: TestHost,
    private readonly driver?: { readonly document: unknown; readonly values: Readonly<Record<string, string>> },
    private readonly hasGateway = false,
  ) {
    this.middle = new Middle(host);
  }

  get stepNames(): FaultStep[] {
    const driver = this.driver === undefined ? [] : (["driver"] as const);
    const gateway = this.hasGateway ? (["gateway"] as const) : [];
    return ["lease", ...driver, "runtime", "weights", "serving", ...gateway, "proof"];
  }

  get target(): SshTarget {
    const target = this.host.sshTarget("ops");
    this.used.push(target);
    return target;
  }

  request(step: FaultStep): StepRequest {
    return {
      target: this.target,
      stack: "faults",
      step,
      values: step === "driver" ? (this.driver?.values ?? {}) : {},
      document: this.document(step),
      ...((step === "serving" || step === "proof") && { secrets: { apiKey: CANARY } }),
      ...(step === "gateway" && { secrets: { upstreamKey: CANARY, "key default": CANARY } }),
      timeoutSeconds: 120,
    };
  }

  private document(step: FaultStep): unknown {
    const { python } = this.results.runtime ?? {};
    const weights = this.results.weights ?? {};
    switch (step) {
      case "lease":
        return { stack: "faults", exclusive: true, cache: "remove" };
      case "driver":
        return this.driver?.document;
      case "runtime":
        return { kind: "archive", device: "cpu", vllmVersion: "0.32.0", path: `${SUPPLIES_ON_HOST}/vllm.tar` };
      case "weights":
        return { source: "archive", model: `${SUPPLIES_ON_HOST}/${this.model}`, revision: "main", python };
      case "serving": {
        const argv = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", weights["path"]];
        argv.push("--served-model-name", "model", "--host", "127.0.0.1", "--port", String(PORT));
        argv.push("--dtype", "bfloat16", "--max-model-len", "256", "--kv-cache-memory-bytes", "67108864");
        return { argv, env: {}, port: PORT, weightsDigest: weights["digest"], startupSeconds: 60, stopSeconds: 5 };
      }
      case "gateway":
        return gatewayDocumentOf({
          target: "ssh",
          ssh: { hosts: ["x"] },
          port: this.gatewayPort,
          gateway: { servingPort: PORT },
        });
      case "proof": {
        const { unitId } = this.results.serving ?? {};
        return { baseUrl: `http://127.0.0.1:${PORT}`, model: "model", deadlineSeconds: 30, unit: "serving", unitId };
      }
      default:
        throw new Error(`unknown step ${String(step satisfies never)}`);
    }
  }

  async apply(step: FaultStep): Promise<void> {
    const request = this.request(step);
    this.results[step] = await applyStep(request, { onProgress: (line) => this.lines.push(line) });
  }

  /** Starts the real runner in a process of its own, as Pulumi does, and hands it the step. */
  startRunner(step: FaultStep, variables: Readonly<Record<string, string>> = {}) {
    const child = spawn(path.join(root, "bin/tandem-runner"), ["apply"], { env: { ...process.env, ...variables } });
    child.stdin.on("error", () => undefined);
    child.stdin.end(JSON.stringify(this.request(step)));
    const answer = answerOf(child).then((ended) => {
      this.lines.push(...ended.stderr.split("\n"));
      return ended;
    });
    return { child, answer };
  }

  /** Applies all steps from the first up to this one, which is left out. */
  async applyBefore(step: FaultStep): Promise<void> {
    for (const earlier of this.stepNames.slice(0, this.stepNames.indexOf(step))) await this.apply(earlier);
  }

  /** As `tandem up` again: every step, after which all hold. */
  async converge(): Promise<void> {
    for (const step of this.stepNames) await this.apply(step);
    const checks = await readChecks(this.target, "faults");
    const wrong = checks.filter(({ holds }) => !holds).map(({ step, reason }) => `${step}: ${reason ?? ""}`);
    if (checks.length !== this.stepNames.length) wrong.push(`${checks.length} steps are known`);
    if (wrong.length > 0) throw new Error(`up does not converge: ${wrong.join("; ")}`);
  }

  /** As `tandem destroy`: everything back, after which nothing of ours is left. */
  async destroy(): Promise<void> {
    this.results = {};
    const from = this.lines.length;
    await sweepHost(this.target, "faults", (line) => this.lines.push(line)).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${this.lines.slice(from).join("\n")}`);
    });
    // Packages and accounts leave files below /etc with another time; the sweep has compared those.
    const isPlain = this.driver === undefined && !this.hasGateway;
    await requireNoTraces(this.host, isPlain ? undefined : /^\/etc\//);
  }

  async close(): Promise<void> {
    await closeConnections(this.used);
  }
}

/** @throws Error naming what a host still has of Tandem, but for lines like `except` */
export async function requireNoTraces(host: TestHost, except?: RegExp): Promise<void> {
  const traces = (await tracesOn(host)).filter((line) => except?.test(line) !== true);
  if (traces.length > 0) throw new Error(`destroy leaves on ${host.name}: ${traces.join(", ")}`);
}
