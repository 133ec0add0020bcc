import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, it, vi } from "vitest";
import { NvidiaRepository } from "../fakes/nvidia-repository";
import { writeStandIn } from "../fakes/vllm/runtime";
import { describeOnHosts, startHosts, type Fleet } from "../fixtures/hosts/hosts";
import { DriverHost, ENSURE, REPOSITORY } from "../host/driver-host";
import { SUPPLIES_ON_HOST } from "./deployment";
import { casesOf } from "./faults-cases";
import { ClientState } from "./faults-client-state";
import { FaultRun, goodEnd, playMiddle, refused, toldByRunner } from "./faults-run";
import { StepsOnHost } from "./faults-steps";

const NAMES = ["cut", "gone", "power", "reboot"];
const DOCUMENT = { ...ENSURE, onDestroy: "remove" };
const run = new FaultRun(__filename);
let fleet: Fleet;
let state: ClientState;
let repository: NvidiaRepository;
const all: StepsOnHost[] = [];

/** A host with two GPUs on its bus, without a driver; packages come from the stand-in of NVIDIA's repository only. */
async function on(name: string): Promise<StepsOnHost> {
  const driver = new DriverHost(fleet.host(name));
  driver.putGpus(2);
  await driver.host.exec(
    "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*; touch /srv/taken",
  );
  const steps = new StepsOnHost(driver.host, { document: DOCUMENT, values: driver.values });
  all.push(steps);
  return steps;
}

function makeSupplies(folder: string): string {
  const supplies = path.join(folder, "supplies");
  mkdirSync(supplies);
  writeStandIn(supplies);
  execFileSync("tar", ["-C", supplies, "-cf", path.join(supplies, "model.tar"), "model"]);
  return supplies;
}

describeOnHosts("a fault in the middle of installing a driver", () => {
  beforeAll(async () => {
    state = new ClientState();
    state.begin();
    repository = new NvidiaRepository(["580.159.04"], ["debian12"]);
    const mounts = { [SUPPLIES_ON_HOST]: makeSupplies(state.folder), [REPOSITORY]: repository.folder };
    fleet = await startHosts(NAMES, { mounts });
    const [cut, gone, power, reboot] = await Promise.all([on("cut"), on("gone"), on("power"), on("reboot")]);
    await Promise.all([
      playMiddle(run, cut, "link cut for 20 s", ["driver"]).then(() =>
        playMiddle(run, cut, "sshd restarted", ["driver"]),
      ),
      playMiddle(run, gone, "link cut for ever", ["driver"]),
      playMiddle(run, power, "power loss", ["driver"]).then(() =>
        playMiddle(run, power, "client killed, then destroy", ["driver"]),
      ),
      playSystem(reboot).then(() => playReboot(reboot)),
    ]);
    run.keep();
    await Promise.all(all.map((steps) => steps.close()));
  }, 400_000);
  afterAll(async () => {
    await fleet?.close();
    repository?.close();
    state?.end();
  });

  it.each(casesOf(__filename))("$fault: $step", ({ fault, step }) => {
    run.expectGood(fault, step);
  });
});

/** Nobody publishes a driver for what the host says that it is. */
async function playSystem(steps: StepsOnHost): Promise<void> {
  const other = async () => {
    await steps.host.exec("cp /usr/lib/os-release /root/os-release; sed -i 's/^ID=.*/ID=plan9/' /usr/lib/os-release");
    await steps.apply("lease");
    const message = await refused(steps, () => steps.apply("driver"), /plan9/);
    await steps.host.exec("cat /root/os-release >/usr/lib/os-release");
    return message;
  };
  await run.play([["unsupported distribution", "driver", other]], async () => {
    await steps.destroy();
    return "destroy leaves a clean host";
  });
}

async function playReboot(steps: StepsOnHost): Promise<void> {
  const { host } = steps;
  const never = async () => {
    await steps.apply("lease");
    await host.neverComesBack();
    const message = await toldByRunner(steps, "driver", { TANDEM_REBOOT_SECONDS: "5" });
    await vi.waitFor(() => host.start(), { timeout: 60_000, interval: 1000 });
    return message;
  };
  await run.play([["reboot that never comes back", "driver", never]], () => goodEnd(steps));
}
