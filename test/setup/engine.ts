import { ensureEngine } from "../../bootstrap/engine";

/**
 * Makes the Pulumi engine ready before any test that starts it: where it has to be built that takes minutes, which no test's limit
 * counts. The build uses all cores, so nothing is won by tests beside it.
 */
export default async function prepareEngine(): Promise<void> {
  await ensureEngine({ log: (line) => console.log(line) });
}
