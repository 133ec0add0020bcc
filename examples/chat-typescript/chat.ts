// Asks the served model a question and prints the answer as it comes.
//   eval "$(tandem outputs --env-vars)"
//   npm install && node chat.ts "What is the capital of France? Answer in one sentence."
import OpenAI from "openai";

const { TANDEM_BASE_URL: baseURL, TANDEM_API_KEY: apiKey, TANDEM_MODEL: model } = process.env;
if (!baseURL || !apiKey || !model) {
  console.error('TANDEM_BASE_URL, TANDEM_API_KEY and TANDEM_MODEL are needed: eval "$(tandem outputs --env-vars)"');
  process.exit(2);
}

const question = process.argv.slice(2).join(" ") || "What is the capital of France? Answer in one sentence.";
const answer = await new OpenAI({ baseURL, apiKey }).chat.completions.create({
  model,
  messages: [{ role: "user", content: question }],
  max_completion_tokens: 64,
  temperature: 0,
  stream: true,
});
for await (const part of answer) process.stdout.write(part.choices[0]?.delta.content ?? "");
process.stdout.write("\n");
