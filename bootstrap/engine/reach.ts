import { readNote, writeNote } from "./cache";

/** Pulumi's own site for the CLI and its plugins. */
const DOWNLOADS = "https://get.pulumi.com";
/** Long enough for a slow link, short enough to lose on a machine that drops packets. */
const LIMIT_MILLISECONDS = 3_000;
/** So long a "no" is believed: a run that changes nothing must not ask again and again. */
const MEMORY_MILLISECONDS = 60 * 60_000;
const NOTE = "unreachable.json";

/** Whether Pulumi's downloads can be had here. Takes 3 s at most, and no time while a "no" is less than an hour old. */
export async function downloadsReachable(): Promise<boolean> {
  const note = readNote(NOTE) as { since?: number } | undefined;
  const age = Date.now() - (note?.since ?? 0);
  if (age >= 0 && age < MEMORY_MILLISECONDS) return false;
  try {
    const answer = await fetch(DOWNLOADS, { method: "HEAD", signal: AbortSignal.timeout(LIMIT_MILLISECONDS) });
    if (answer.status < 500) return true;
  } catch {
    // No name, no route, no answer in time: all the same here.
  }
  rememberUnreachable();
  return false;
}

/** Called as well when a download failed half-way: the next run should not fail the same way. */
export function rememberUnreachable(): void {
  writeNote(NOTE, { since: Date.now() });
}
