import { copyFileSync } from "node:fs";
import * as path from "node:path";
import { readChecks } from "../../bootstrap/runner/read-host";
import { debianProgram } from "../fixtures/debian-program";
import { clientKilled, type FaultRun, goodEnd, powerLost, refused } from "./faults-run";
import type { StepsOnHost } from "./faults-steps";

const TAKEN = 8090;
const CONFIGURATION = "$(ls -d /dev/shm/tandem-gateway-*)/nginx.conf";
const UNIT = "/etc/systemd/system/tandem-faults-gateway.service";

/** What befalls the gateway alone: its start cut off twice, somebody else on its port, and hands that change what it runs on. */
export async function playGateway(run: FaultRun, steps: StepsOnHost): Promise<void> {
  // The host's own: what befalls apt is another test's.
  copyFileSync(debianProgram("nginx", "usr/sbin/nginx"), path.join(steps.host.root, "usr/sbin/nginx"));
  const killed = async () => {
    await steps.applyBefore("gateway");
    await clientKilled(steps, "gateway");
    await steps.apply("gateway");
    return "nothing: it was killed";
  };
  const power = async () => {
    // So that it has to be started.
    await steps.host.exec("systemctl stop tandem-faults-gateway");
    return powerLost(steps, "gateway");
  };
  const taken = async () => {
    const before = steps.gatewayPort;
    await steps.host.takePort(TAKEN);
    steps.gatewayPort = TAKEN;
    const message = await refused(steps, () => steps.apply("gateway"), /port 8090 is taken by process/);
    steps.gatewayPort = before;
    await steps.host.freePort(TAKEN);
    // What ran goes on meanwhile.
    await steps.host.exec(`curl -sf http://127.0.0.1:${before}/health`);
    await steps.apply("gateway");
    return message;
  };
  const changed = (file: string) => async () => {
    await steps.host.exec(`echo '# by hand' >>${file}`);
    const reason = await driftOf(steps);
    await steps.apply("gateway");
    const left = await driftOf(steps);
    if (reason === "" || left !== "")
      throw new Error(`a change of ${file}: seen "${reason}", after its repair "${left}"`);
    return reason;
  };
  await run.play(
    [
      ["client killed", "gateway", killed],
      ["power loss", "gateway", power],
      ["port taken", "gateway", taken],
      ["configuration changed by hand", "gateway", changed(CONFIGURATION)],
      ["unit changed by hand", "gateway", changed(UNIT)],
    ],
    () => goodEnd(steps).finally(() => steps.close()),
  );
}

/** Why the gateway's step does not hold; empty when it does. */
async function driftOf(steps: StepsOnHost): Promise<string> {
  const check = (await readChecks(steps.target, "faults")).find(({ step }) => step === "gateway");
  return check?.holds === true ? "" : (check?.reason ?? "no reason");
}
