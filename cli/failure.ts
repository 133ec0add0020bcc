/** How many lines of a failure are shown when it does not say which of them matter. */
const TAIL_LINES = 6;

/**
 * The part of a failed command's message that a reader needs. Pulumi's message holds the command line and everything that the
 * command printed; our runner ends it with a block that starts with `<step> failed`.
 */
export function essenceOf(message: string): string {
  const lines = message.split("\n").map((line) => line.trimEnd());
  const start = lines.findLastIndex((line) => /^[a-z]+ failed\b/.test(line));
  if (start >= 0) return lines.slice(start).filter(isSpoken).join("\n");
  const isCommand = /^exit status \d+: running /.test(lines[0] ?? "");
  if (isCommand)
    return lines.slice(1).filter(isSpoken).slice(-TAIL_LINES).join("\n") || (lines[0] ?? "").split(":")[0] || message;
  const isStackTrace = lines.some((line) => /^\s+at .+:\d+:\d+\)?$/.test(line));
  return (isStackTrace ? lines.filter((line) => !/^\s+at /.test(line)) : lines).filter(isSpoken).join("\n");
}

function isSpoken(line: string): boolean {
  return line.trim() !== "";
}
