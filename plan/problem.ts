/** One thing that is wrong with what the user asked for. All problems of a run are collected and shown together. */
export interface Problem {
  /** Setting the problem belongs to, as the user writes it, e.g. `tensorParallel` or `split.serving`. */
  readonly setting: string;
  /** What is wrong, in the user's words. */
  readonly what: string;
  /** The value that was given, as the user wrote it; absent when nothing was given. */
  readonly value?: string;
  /** What is allowed, e.g. `1, 3 or 9`. */
  readonly allowed?: string;
  /** What to do about it, as a command or a setting. */
  readonly fix?: string;
}

/** `setting: what — got value — allowed: … — fix: …`, leaving out the parts that are not known. */
export function formatProblem(problem: Problem): string {
  const parts = [`${problem.setting}: ${problem.what}`];
  if (problem.value !== undefined) parts.push(`got ${problem.value}`);
  if (problem.allowed !== undefined) parts.push(`allowed: ${problem.allowed}`);
  if (problem.fix !== undefined) parts.push(`fix: ${problem.fix}`);
  return parts.join(" — ");
}

/** Thrown by whoever needs a valid setting or plan; carries every problem at once. */
export class ProblemsError extends Error {
  constructor(
    readonly problems: readonly Problem[],
    heading = "The settings do not work",
    footer = "",
  ) {
    super(`${heading}:\n${problems.map((problem) => `  - ${formatProblem(problem)}`).join("\n")}${footer}`);
    this.name = "ProblemsError";
  }
}
