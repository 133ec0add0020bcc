/**
 * What training costs serving, on this machine with a real model:
 *   1. throughput with the trainer idle, against serving without one, alternating;
 *   2. throughput while a job trains, against throughput with the trainer idle, alternating.
 * Prints plain lines; exits with 1 when a measurement could not be made.
 * Usage: bench-training.ts [idle | training]   both without any
 */
import { setTimeout as sleep } from "node:timers/promises";
import { loadavg } from "node:os";
import OpenAI, { toFile } from "openai";
import { openBenchStack, type BenchStack } from "./bench-stack";

const ROUNDS = 5;
const IDLE_TARGET = 0.97;
const STREAMS = 8;
const TOKENS = 48;
/** Of so many loads the fastest counts: what else the machine does makes one slower, never faster, by up to 10 % where this was written. */
const LOADS = 3;
/** A trainer that has just loaded the base model is given this long to come to rest. */
const SETTLE_MILLISECONDS = 5_000;

async function main(): Promise<void> {
  const part = process.argv[2];
  process.on("SIGINT", () => undefined); // The command that runs is interrupted and fails; the stack is destroyed below.
  const stack = await openBenchStack();
  try {
    if (part !== "training") await reportIdle(stack);
    else await stack.tandem("up", { TRAINING_BACKEND: "huggingface" });
    if (part !== "idle") await reportTraining(stack);
  } finally {
    await stack.tandem("destroy");
    stack.remove();
  }
  const load = loadavg().map((minutes) => minutes.toFixed(1));
  console.log(`load average at the end: ${load.join(" ")}`);
}

/** Leaves the stack up, with its trainer. vLLM runs through: only the trainer comes and goes. */
async function reportIdle(stack: BenchStack): Promise<void> {
  const [without, idle]: [number[], number[]] = [[], []];
  for (let round = 1; round <= ROUNDS; round++) {
    without.push(await measure(stack, "off"));
    idle.push(await measure(stack, "huggingface"));
    console.log(`round ${round}: without a trainer ${show(without.at(-1))}, trainer idle ${show(idle.at(-1))}`);
  }
  const ratio = median(idle) / median(without);
  console.log(
    `serving with the trainer idle: ${percent(ratio)} of serving without one (medians of ${ROUNDS}, alternating, each the fastest of ${LOADS} loads: ` +
      `${show(median(idle))} and ${show(median(without))}; target at least ${percent(IDLE_TARGET)}: ` +
      `${ratio >= IDLE_TARGET ? "met" : "missed"})`,
  );
}

async function measure(stack: BenchStack, backend: "off" | "huggingface"): Promise<number> {
  await stack.tandem("up", { TRAINING_BACKEND: backend });
  await sleep(SETTLE_MILLISECONDS);
  const client = clientOf(stack, "endpoints.baseUrl");
  await throughput(client); // Warms what the start left cold.
  return fastest(client);
}

async function fastest(client: OpenAI): Promise<number> {
  const loads: number[] = [];
  for (let load = 0; load < LOADS; load++) loads.push(await throughput(client));
  return Math.max(...loads);
}

async function reportTraining(stack: BenchStack): Promise<void> {
  const serving = clientOf(stack, "endpoints.baseUrl");
  const training = clientOf(stack, "endpoints.fineTuning");
  const idle: number[] = [];
  const busy: number[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    idle.push(await throughput(serving));
    const job = await startJob(training);
    busy.push(await throughput(serving));
    const { status } = await training.fineTuning.jobs.retrieve(job);
    if (status !== "running") throw new Error(`the job was ${status} before the measurement ended`);
    await training.fineTuning.jobs.cancel(job);
    await sleep(SETTLE_MILLISECONDS); // The step that runs is finished.
  }
  const ratio = median(busy) / median(idle);
  console.log(
    `serving while a job trains: ${percent(ratio)} of serving with the trainer idle, a loss of ${percent(1 - ratio)} ` +
      `(medians of ${ROUNDS}, alternating: ${show(median(busy))} and ${show(median(idle))})`,
  );
}

/** A job far longer than a measurement; returns once it trains. */
async function startJob(client: OpenAI): Promise<string> {
  const messages = [
    { role: "user", content: "Count from one to a hundred." },
    { role: "assistant", content: Array.from({ length: 100 }, (_, index) => index + 1).join(", ") },
  ];
  const data = Array.from({ length: 4 }, () => JSON.stringify({ messages })).join("\n");
  const file = await client.files.create({ file: await toFile(Buffer.from(data), "c.jsonl"), purpose: "fine-tune" });
  const model = await baseModel(client);
  const metadata = { "tandem.n_steps": "5000", "tandem.batch_size": "4", "tandem.lora_rank": "16" };
  const { id } = await client.fineTuning.jobs.create({ model, training_file: file.id, metadata });
  for (let second = 0; second < 120; second++) {
    await sleep(1000);
    const { data: events } = await client.fineTuning.jobs.listEvents(id);
    if (events.some(({ type }) => type === "metrics")) return id;
  }
  throw new Error("the job made no step within 120 s");
}

/** Tokens a second over all streams. */
async function throughput(client: OpenAI): Promise<number> {
  const model = await baseModel(client);
  const startedAt = performance.now();
  const answers = await Promise.all(
    Array.from({ length: STREAMS }, (_, stream) =>
      client.completions.create({
        model,
        prompt: `Story ${stream}: once upon a time`,
        max_tokens: TOKENS,
        temperature: 0,
        ...{ ignore_eos: true }, // vLLM's own: each stream has its full length.
      }),
    ),
  );
  const tokens = answers.reduce((sum, { usage }) => sum + (usage?.completion_tokens ?? 0), 0);
  return tokens / ((performance.now() - startedAt) / 1000);
}

async function baseModel(client: OpenAI): Promise<string> {
  const [base] = (await client.models.list()).data;
  if (base === undefined) throw new Error("the server names no model");
  return base.id;
}

function clientOf(stack: BenchStack, endpoint: string): OpenAI {
  return new OpenAI({ baseURL: stack.output(endpoint), apiKey: stack.output("apiKey"), timeout: 300_000 });
}

function median(values: readonly number[]): number {
  return [...values].sort((one, other) => one - other)[Math.floor(values.length / 2)] ?? Number.NaN;
}

function show(tokensPerSecond = Number.NaN): string {
  return `${tokensPerSecond.toFixed(1)} tok/s`;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
