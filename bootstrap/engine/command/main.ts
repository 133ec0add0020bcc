/** The plugin process: `main.js [flags] ENGINE_ADDRESS`, started by the engine. Ends with the engine that started it. */
import { enableCompileCache } from "node:module";
import { join } from "node:path";
import { engineCache } from "../cache";

/** An engine that was killed cannot end its plugins; a plugin looks for itself this often. */
const PARENT_CHECK_MILLISECONDS = 500;

function endWithEngine(): void {
  const engine = process.ppid;
  setInterval(() => {
    if (process.ppid !== engine) process.exit(1);
  }, PARENT_CHECK_MILLISECONDS).unref();
}

endWithEngine();
// Before the gRPC library is loaded: what Node compiled at the last start saves 0.1 s of every run.
enableCompileCache(join(engineCache(), "compiled"));

// Flags for tracing and logging may come before the address.
const engineAddress = process.argv.slice(2).find((argument) => /^[^-].*:\d+$/.test(argument));
import("./serve.js")
  .then(({ serve }) => serve(engineAddress))
  .catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });
