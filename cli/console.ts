import { createInterface } from "node:readline/promises";
import { CommandError, EXIT } from "./exit";

/** How a command talks while it runs. Results go to standard output at its end, everything else to standard error. */
export interface Console {
  readonly isJson: boolean;
  /** Can be handed around as it is. */
  readonly say: (line: string) => void;
  /** While steps are shown live, lines have to go above them; undefined ends that. */
  readonly sayThrough: (sink: ((line: string) => void) | undefined) => void;
}

export function makeConsole(isJson: boolean): Console {
  const toStandardError = (line: string): void => void process.stderr.write(`${line}\n`);
  let sink = toStandardError;
  return { isJson, say: (line) => sink(line), sayThrough: (wanted) => void (sink = wanted ?? toStandardError) };
}

/**
 * Asks before something is changed, on a terminal; elsewhere nobody is there to ask.
 * @throws CommandError when nobody can be asked, or when the answer is no
 */
export async function confirm(question: string, { isJson }: Console, isAgreed: boolean): Promise<void> {
  if (isAgreed) return;
  if (isJson || !process.stdin.isTTY || !process.stderr.isTTY) {
    throw new CommandError(`${question} — nobody is here to answer — fix: add --yes`, EXIT.usage);
  }
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  const leave = new AbortController();
  prompt.on("SIGINT", () => leave.abort());
  try {
    const answer = await prompt.question(`${question} [Y/n] `, { signal: leave.signal });
    if (!/^(|y|yes)$/i.test(answer.trim())) throw new CommandError("nothing was changed", EXIT.failed);
  } catch (error) {
    if (leave.signal.aborted) throw new CommandError("\nnothing was changed", EXIT.interrupted);
    throw error;
  } finally {
    prompt.close();
  }
}
