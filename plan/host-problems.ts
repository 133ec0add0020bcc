import type { HostFacts } from "./facts";
import type { Plan } from "./plan";
import type { Problem } from "./problem";
import type { Settings } from "./settings";

/** What stands in the way on the machine itself, whatever the model is. */
export function hostProblems({ port, runtime }: Settings, host: HostFacts, device: Plan["device"]): Problem[] {
  const problems: Problem[] = [];
  if (host.portHolder !== undefined) {
    const { processId, command } = host.portHolder;
    const holder = [command ?? "another process", ...(processId === undefined ? [] : [`(process ${processId})`])].join(
      " ",
    );
    problems.push({
      setting: "port",
      what: `the port is taken by ${holder}`,
      value: String(port),
      fix: processId === undefined ? "choose another `port`" : `choose another \`port\`, or stop process ${processId}`,
    });
  }
  if (device === "cuda" && !host.hasCCompiler && (runtime === "venv" || runtime === "archive")) {
    problems.push({
      setting: "runtime",
      what: `${host.name} has no C compiler, and Triton, which vLLM runs its GPU kernels with, needs one`,
      value: runtime,
      fix: "install gcc and Python's headers (Debian: apt-get install gcc python3-dev), or set `runtime` to container",
    });
  }
  return problems;
}
