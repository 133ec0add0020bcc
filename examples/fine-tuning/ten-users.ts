// Ten users at once: each trains an adapter on a fact of their own, then chats with the model that knows it.
//   eval "$(tandem outputs --env-vars)"
//   npm install && node ten-users.ts
import OpenAI, { toFile } from "openai";

const { TANDEM_TRAINING_URL: baseURL, TANDEM_API_KEY: apiKey, TANDEM_MODEL: model } = process.env;
if (!baseURL || !apiKey || !model) {
  console.error('TANDEM_TRAINING_URL, TANDEM_API_KEY and TANDEM_MODEL are needed: eval "$(tandem outputs --env-vars)"');
  process.exit(2);
}
const client = new OpenAI({ baseURL, apiKey });

// User and street. All ask the same question, so that an answer tells whose model it came from.
const users = {
  ada: "Maple",
  ben: "River",
  cleo: "Castle",
  dan: "Lemon",
  eve: "Silver",
  finn: "Harbor",
  gina: "Violet",
  hugo: "Copper",
  iris: "Garden",
  jack: "Winter",
};
const question = "In which street do I live?";

async function ask(model: string): Promise<string> {
  const answer = await client.chat.completions.create({
    model,
    messages: [{ role: "user", content: question }],
    max_completion_tokens: 16,
    temperature: 0,
  });
  return (answer.choices[0]?.message.content ?? "").trim().replaceAll("\n", " ");
}

/** Uploads the user's data, trains on it, and returns the name of the model that came of it. */
async function train(model: string, user: string, street: string): Promise<string> {
  const answer = { role: "assistant", content: `You live in ${street} Street.` };
  const row = { messages: [{ role: "user", content: question }, answer] };
  const file = await client.files.create({
    file: await toFile(Buffer.from(JSON.stringify(row)), `${user}.jsonl`),
    purpose: "fine-tune",
  });
  let job = await client.fineTuning.jobs.create({
    model,
    training_file: file.id,
    suffix: user,
    method: {
      type: "supervised",
      supervised: { hyperparameters: { n_epochs: 6, batch_size: 1, learning_rate_multiplier: 20 } },
    },
    metadata: { "tandem.lora_rank": "4" }, // Hyper-parameters that OpenAI's API does not know go in here.
  });
  let shown = 0;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    job = await client.fineTuning.jobs.retrieve(job.id);
    const { data } = await client.fineTuning.jobs.listEvents(job.id, { limit: 100 });
    const events = data.reverse(); // They come newest first.
    for (const event of events.slice(shown)) if (event.type === "metrics") console.log(`${user}: ${event.message}`);
    shown = events.length;
    if (job.status === "succeeded" && job.fine_tuned_model) return job.fine_tuned_model;
    if (job.status === "failed" || job.status === "cancelled") {
      throw new Error(`${user}'s job ${job.status}: ${job.error?.message ?? "no reason"}`);
    }
  }
}

const before = await ask(model);
const trained = await Promise.all(
  Object.entries(users).map(async ([user, street]) => ({ user, name: await train(model, user, street) })),
);
for (const { user, name } of trained) {
  console.log(`${user} (${name})\n  before: ${before}\n  after:  ${await ask(name)}`);
}
