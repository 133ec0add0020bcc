import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HOST_SCRIPTS, processesWith } from "./host";

/** Runs the real programs of units in a Python that sends them a stop at one certain line, which chance seldom does. */
describe("a unit that is stopped at an awkward moment", () => {
  let folder: string;
  let marker: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "tandem-stopped-"));
    marker = path.basename(folder);
  });
  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  function run(script: string) {
    const env = { ...process.env, TANDEM_OWNER: "x/svc", TANDEM_STACK_DIR: folder, TANDEM_UNIT: "svc" };
    const argv = ["-BI", "-c", `import os, signal, sys, time\nsys.path.insert(0, sys.argv[1])\n${script}`];
    // A stop that was lost shows as an error: the limit was reached, and the signal that comes then is the second one.
    const { status, stderr, error } = spawnSync("python3", [...argv, HOST_SCRIPTS, folder], {
      env,
      encoding: "utf8",
      timeout: 20_000,
    });
    return { status, stderr, error };
  }

  it.each([
    ["just before its service is started", "secrets", "token_hex", "sleep 600"],
    ["just when its service has ended", "os", "waitpid", "exit 7"],
  ])("%s ends with all that it started", (_when, module, name, service) => {
    const unit = { argv: ["sh", "-c", `${service}; : ${marker}`], stopSeconds: 1 };
    writeFileSync(path.join(folder, "unit.json"), JSON.stringify(unit));
    const script = `
import secrets, supervise
supervisor, plain = os.getpid(), ${module}.${name}
def stopped(*given):
    answer = plain(*given)
    if os.getpid() == supervisor and (answer[0] if given[1:] else True):
        os.kill(supervisor, signal.SIGTERM)
    return answer
${module}.${name} = stopped
sys.argv[1:] = sys.argv[2:]
sys.exit(supervise.main())`;
    expect(run(script)).toEqual({ status: 0, stderr: "" });
    expect(JSON.parse(readFileSync(path.join(folder, "status.json"), "utf8"))).toMatchObject({ state: "stopped" });
    expect(processesWith(marker)).toEqual([]);
  });

  it("ends as a gateway without complaint when its monitor is gone before nginx", () => {
    const script = `
import gateway_monitor, gateway_run
from pathlib import Path
def end_late(number, frame):
    time.sleep(0.3)
    os._exit(0)
def wait(on_stop=signal.SIG_DFL):
    signal.signal(signal.SIGTERM, on_stop)
    time.sleep(600)
class Gateway:
    run = Path("/")
children, plain = [], gateway_run.start
def start(action):
    children.append(plain(action))
    return children[-1]
gateway_run.start, gateway_monitor.serve = start, lambda run: wait()
nginx = gateway_run.start(lambda: wait(end_late))
plain_wait = os.wait
def stop_all():
    os.wait = plain_wait
    for process in (os.getpid(), *children):
        os.kill(process, signal.SIGTERM)
    return os.wait()
os.wait = stop_all
sys.exit(gateway_run.watch(Gateway, nginx))`;
    expect(run(script)).toEqual({ status: 0, stderr: "" });
  });
});
