import { outputsSchema, type Outputs } from "../../stacks/outputs";
import type { ProcessEnd } from "./processes";

/** The document of `tandem up --json`, as far as it is read here. */
interface Answer {
  readonly error?: { readonly message?: string };
  readonly outputs?: unknown;
}

/**
 * What `tandem up --json` answered: the outputs of an environment that is up, else why there is none. With neither, its last words
 * have to do.
 */
export function readAnswer({ code, stdout }: ProcessEnd): { readonly outputs?: Outputs; readonly failure?: string } {
  const answer = parse(stdout);
  const outputs = outputsSchema.safeParse(answer.outputs).data;
  if (code === 0) return { outputs };
  const failed = outputs?.health.checks.filter(({ status }) => status === "fail") ?? [];
  const unhealthy = failed.map(({ name, detail }) => `${name}: ${detail}`).join("\n");
  return { failure: answer.error?.message ?? (unhealthy === "" ? undefined : unhealthy) };
}

function parse(text: string): Answer {
  try {
    return JSON.parse(text) as Answer;
  } catch {
    return {};
  }
}
