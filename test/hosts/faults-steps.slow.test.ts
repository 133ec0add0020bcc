import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, it } from "vitest";
import { writeStandIn } from "../fakes/vllm/runtime";
import { describeOnHosts, startHosts, type Fleet } from "../fixtures/hosts/hosts";
import { SUPPLIES_ON_HOST } from "./deployment";
import { casesOf } from "./faults-cases";
import { playGateway } from "./faults-gateway";
import { ClientState } from "./faults-client-state";
import { FaultRun, givenUp, goodEnd, playMiddle, refused } from "./faults-run";
import { StepsOnHost } from "./faults-steps";

const NAMES = ["cut1", "cut2", "gone1", "gone2", "power", "kill", "disk", "clock", "gate"];
const ALL = ["lease", "runtime", "weights", "serving", "proof"] as const;
const run = new FaultRun(__filename);
let fleet: Fleet;
let state: ClientState;

/** What the hosts are given; the big model is for a disk that fills up while it is unpacked. */
function makeSupplies(folder: string): string {
  const supplies = path.join(folder, "supplies");
  mkdirSync(supplies);
  writeStandIn(supplies);
  execFileSync("tar", ["-C", supplies, "-cf", path.join(supplies, "model.tar"), "model"]);
  writeFileSync(path.join(supplies, "model/model.safetensors"), Buffer.alloc(192 << 20, 7));
  execFileSync("tar", ["-C", supplies, "-cf", path.join(supplies, "big.tar"), "model"]);
  return supplies;
}

const all: StepsOnHost[] = [];
function on(name: string): StepsOnHost {
  const steps = new StepsOnHost(fleet.host(name));
  all.push(steps);
  return steps;
}

describeOnHosts("a fault in the middle of a step", () => {
  beforeAll(async () => {
    state = new ClientState();
    state.begin();
    fleet = await startHosts(NAMES, { mounts: { [SUPPLIES_ON_HOST]: makeSupplies(state.folder) } });
    await Promise.all(fleet.hosts.map((host) => host.exec("touch /srv/taken")));
    const killed = on("kill");
    const disk = on("disk");
    await Promise.all([
      playMiddle(run, on("cut1"), "link cut for 20 s", ["lease", "runtime", "weights"]),
      playMiddle(run, on("cut2"), "link cut for 20 s", ["serving", "proof"]),
      playMiddle(run, on("gone1"), "link cut for ever", ["lease", "runtime", "weights"]),
      playMiddle(run, on("gone2"), "link cut for ever", ["serving", "proof"]),
      playMiddle(run, on("power"), "power loss", ALL),
      playMiddle(run, killed, "client killed, then destroy", ALL).then(() =>
        playMiddle(run, killed, "sshd restarted", ALL),
      ),
      playDisk(disk).then(() => playMove(disk)),
      playClock(on("clock")),
      playGateway(run, new StepsOnHost(fleet.host("gate"), undefined, true)),
    ]);
    run.keep();
    await Promise.all(all.map((steps) => steps.close()));
  }, 500_000);
  afterAll(async () => {
    await fleet?.close();
    state?.end();
  });

  it.each(casesOf(__filename))("$fault: $step", ({ fault, step }) => {
    run.expectGood(fault, step);
  });
});

/** The disk fills up while the step's work stands still, and has room again afterwards. */
async function playDisk(steps: StepsOnHost): Promise<void> {
  steps.model = "big.tar";
  const full = (step: "runtime" | "weights", where: string) => async () => {
    await steps.applyBefore(step);
    const { caught } = await steps.middle.watch(step, where);
    const work = steps.apply(step);
    work.catch(() => undefined);
    await caught;
    await steps.host.fillDisk();
    await steps.middle.thaw();
    const message = await refused(steps, () => work, /disk|space/i);
    await steps.host.freeDisk();
    return message;
  };
  await run.play(
    [
      ["disk full in the middle", "runtime", full("runtime", "log:unpacking")],
      ["disk full in the middle", "weights", full("weights", "path:/root/.cache/tandem/models/building.*")],
    ],
    () => goodEnd(steps),
  );
}

/** Power loss, and a host that answers elsewhere: the client can't know, and says so; with the new address it goes on. */
async function playMove(steps: StepsOnHost): Promise<void> {
  const move = async () => {
    await steps.apply("lease");
    const message = await givenUp(steps, "runtime", async () => {
      await steps.host.changeAddress();
      await steps.host.powerCycle();
      await steps.host.exec("touch /srv/taken");
    });
    await steps.apply("runtime");
    return message;
  };
  await run.play([["comes back with another address", "runtime", move]], () => goodEnd(steps));
}

async function playClock(steps: StepsOnHost): Promise<void> {
  for (const [fault, seconds] of [
    ["clock an hour ahead", 3600],
    ["clock an hour behind", -3600],
  ] as const) {
    const skewed = async () => {
      await steps.host.skewClock(seconds);
      // libfaketime's own files are no traces of ours.
      await steps.host.exec("find /etc -newer /srv/taken -exec touch -d '1 day ago' {} +");
      await steps.converge();
      return "nothing: no step needs the right time; tandem doctor warns";
    };
    await run.play([[fault, "all steps", skewed]], () => goodEnd(steps).finally(() => steps.host.skewClock(0)));
  }
}
