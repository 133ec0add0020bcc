import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import type { V1Status } from "@kubernetes/client-node";
import { compareProof } from "../../plan/compare";
import type { Plan } from "../../plan/plan";
import type { Proof } from "../../plan/proof";
import type { ProofResult } from "../runner/proof";
import { redactor } from "../runner/redact";
import { openCluster, type ClusterClient, type ClusterTarget } from "./client";
import { ClusterError, waitForPods } from "./wait";

/** What `@pulumi/command` hands to the runner on standard input for a stack in a cluster. */
export interface ClusterStepRequest {
  readonly target: ClusterTarget;
  readonly namespace: string;
  /** Name of the stack's objects. */
  readonly name: string;
  readonly pods: number;
  readonly plan: Plan;
  /** What was applied: another revision means that the proof is due again. */
  readonly revision: string;
  /** For the pods to become ready, in seconds. */
  readonly limitSeconds: number;
  /** False waits only. */
  readonly proves: boolean;
  readonly apiKey: string;
}

const TOKEN_DEADLINE_SECONDS = 120;
const TRAINING_DEADLINE_SECONDS = 180;

/**
 * Waits for the pods and proves each by what it answers and what is measured in it.
 * @throws ClusterError with what is in the way
 */
export async function proveCluster(request: ClusterStepRequest, say: (line: string) => void): Promise<ProofResult[]> {
  const client = await openCluster(request.target);
  await waitForPods(client, request, say);
  if (!request.proves) return [];
  const results: ProofResult[] = [];
  for (let index = 0; index < request.pods; index++) results.push(await provePod(client, request, index, say));
  return results;
}

async function provePod(
  client: ClusterClient,
  request: ClusterStepRequest,
  index: number,
  say: (line: string) => void,
): Promise<ProofResult> {
  const pod = `${request.name}-${index}`;
  const { plan, namespace } = request;
  const trains = plan.training.backend !== "off";
  const redact = redactor([request.apiKey]);
  const answer = await execute(client, {
    namespace,
    pod,
    container: await containerOf(client, namespace, pod),
    command: ["python3", "/opt/tandem/bin/prove_pod.py"],
    input: {
      model: plan.model,
      servingPort: plan.servingPort,
      gatewayPort: plan.port,
      apiKey: request.apiKey,
      deadlineSeconds: TOKEN_DEADLINE_SECONDS,
      ...(trains && {
        training: { url: `http://127.0.0.1:${plan.training.port}`, deadlineSeconds: TRAINING_DEADLINE_SECONDS },
      }),
    },
    limitSeconds: TOKEN_DEADLINE_SECONDS + 120 + (trains ? TRAINING_DEADLINE_SECONDS : 0),
  });
  for (const line of answer.stderr.split("\n").filter((part) => part !== "")) say(redact(`${pod}: ${line}`));
  if (answer.failure !== undefined) {
    const said = answer.stderr.trim().split("\n").at(-1) ?? "";
    throw new ClusterError(redact(`proof failed in pod ${pod}: ${said === "" ? answer.failure : said}`));
  }
  const proof = JSON.parse(answer.stdout.trim().split("\n").at(-1) ?? "") as Proof;
  const checks = compareProof(plan, proof);
  const failed = checks.filter(({ status }) => status === "fail");
  if (failed.length > 0) {
    const list = failed.map(({ name, detail }) => `  - ${name}: ${detail}`);
    throw new ClusterError([`proof failed in pod ${pod}: it serves, and not as planned`, ...list].join("\n"));
  }
  return { proof, checks, provenAt: new Date().toISOString() };
}

/** vLLM's container; with one container for both it is called `pair`. */
async function containerOf({ core }: ClusterClient, namespace: string, pod: string): Promise<string> {
  const { spec } = await core.readNamespacedPod({ namespace, name: pod });
  return spec?.containers.some(({ name }) => name === "pair") === true ? "pair" : "serving";
}

interface Execution {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly command: readonly string[];
  /** One line of JSON on standard input. */
  readonly input: unknown;
  readonly limitSeconds: number;
}

/** Runs a command in a container, as `kubectl exec` does. */
async function execute(
  { config, library }: ClusterClient,
  { namespace, pod, container, command, input, limitSeconds }: Execution,
): Promise<{ stdout: string; stderr: string; failure?: string }> {
  const [stdout, stderr, stdin] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const outputs = Promise.all([text(stdout), text(stderr)]);
  let timer: NodeJS.Timeout | undefined;
  const failure = await new Promise<string | undefined>((resolve, reject) => {
    const exec = new library.Exec(config);
    const onStatus = ({ status, message }: V1Status) =>
      resolve(status === "Success" ? undefined : (message ?? "it failed"));
    const opening = exec.exec(namespace, pod, container, [...command], stdout, stderr, stdin, false, onStatus);
    // From now on: the cluster may accept the connection and never answer.
    timer = setTimeout(() => {
      resolve(`no answer within ${limitSeconds} s`);
      opening.then(
        (socket) => (socket as { close(): void }).close(),
        () => undefined,
      );
    }, limitSeconds * 1000);
    opening.then(() => stdin.write(`${JSON.stringify(input)}\n`), reject);
  });
  clearTimeout(timer);
  stdin.end();
  stdout.end();
  stderr.end();
  const [out, err] = await outputs;
  return { stdout: out, stderr: err, ...(failure !== undefined && { failure }) };
}
