import { writeFileSync } from "node:fs";
import * as path from "node:path";

export const ATTACKS_PAGE = path.resolve(__dirname, "../../docs/attacks.md");

export interface AttackRow {
  readonly name: string;
  /** Statuses that keep the door closed; 0 is a connection that was closed without an answer. */
  readonly allowed: readonly number[];
  readonly got: number;
}

const HEAD = `# Attacks

What was tried on a gateway from another real host (\`exposure: private\`, its own certificate, the stand-in for vLLM behind it), with a good key unless the
row says otherwise, and what came back. Nothing of it reached vLLM: its log was looked through afterwards. The same list runs in
\`test/gateway/gateway.test.ts\` against services that let everything in, where each request that would arrive is seen, and so do bodies beyond
the limits.

Written by \`TANDEM_ATTACKS_TABLE=1\` and \`test/hosts/gateway.slow.test.ts\`; \`test/gateway/attacks-page.test.ts\` fails when an attack has no row or a row is red.

`;

/** Writes the table where that was asked for. */
export function writeAttacks(rows: readonly AttackRow[], routes: number): void {
  if (!process.env["TANDEM_ATTACKS_TABLE"]) return;
  const every = `every other route of vLLM and the trainer, with a key and without, by ten methods: ${routes} requests`;
  const all = [{ name: every, allowed: [404], got: 404 }, ...rows];
  const lines = all.map(
    ({ name, allowed, got }) =>
      `| ${cell(name)} | ${got === 0 ? "closed" : got} | ${allowed.includes(got) ? "ok" : "RED"} |`,
  );
  writeFileSync(ATTACKS_PAGE, `${HEAD}| attack | answer | |\n|---|---|---|\n${lines.join("\n")}\n`);
}

export function cell(name: string): string {
  return `\`${name.replaceAll("|", "\\|").replaceAll("`", "'")}\``;
}
