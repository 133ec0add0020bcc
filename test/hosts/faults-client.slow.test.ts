import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, it } from "vitest";
import { describeOnHosts, startHosts, type Fleet, type SshAccess } from "../fixtures/hosts/hosts";
import { answerOf, read } from "../host/host";
import { Deployment, SUPPLIES_ON_HOST } from "./deployment";
import { casesOf, type FaultStep, requireClean, requireClear } from "./faults-cases";
import { FaultRun } from "./faults-run";
import { Middle, requireNoTraces } from "./faults-steps";

const NAMES = ["kill", "refuse", "move"];
const PORT = 8000;
/** How every key begins; none may be shown. */
const KEY_BEGIN = "tdm-";
const run = new FaultRun(__filename);
const supplies = new Deployment("supplies");
const deployments: Deployment[] = [supplies];
let fleet: Fleet;

/** One environment on one host. Its hosts get what the first deployment holds. */
class OneHost {
  readonly deployment: Deployment;

  constructor(
    name: string,
    private readonly hostName: string,
    private readonly port = PORT,
  ) {
    this.deployment = new Deployment(name);
    deployments.push(this.deployment);
    this.configure();
  }

  get host() {
    return fleet.host(this.hostName);
  }

  configure(access: Partial<SshAccess> = {}, ssh: Readonly<Record<string, unknown>> = {}): void {
    this.deployment.configure([{ ...this.host.access(), ...access }], { port: this.port, ssh });
  }

  async up(): Promise<string> {
    const { status, stderr } = await this.deployment.tandem(["up", "--yes"]);
    if (status !== 0) throw new Error(`up ended with ${status}:\n${stderr}`);
    return stderr;
  }

  /** `up` or `destroy` that must fail, or only warn; answers with what it says of the fault, which has to be clear. */
  async tells(command: "up" | "destroy", pattern: RegExp, mayPass = false): Promise<string> {
    const variables = { TANDEM_RECONNECT_SECONDS: "3" };
    const { status, stdout, stderr } = await this.deployment.tandem([command, "--yes"], variables);
    const wrong = requireClean(`${stdout}\n${stderr}`, KEY_BEGIN);
    if ((status === 0 && !mayPass) || wrong.length > 0)
      throw new Error(`${command} ended with ${status}, ${wrong.join()}:\n${stderr}`);
    requireClear(stderr, this.host.name, KEY_BEGIN);
    const line = stderr.split("\n").find((candidate) => pattern.test(candidate));
    if (line === undefined) throw new Error(`${command} failed, but not for ${String(pattern)}:\n${stderr}`);
    return line.trim();
  }

  async destroy(): Promise<void> {
    const { status, stderr } = await this.deployment.tandem(["destroy", "--yes"]);
    if (status !== 0) throw new Error(`destroy ended with ${status}:\n${stderr}`);
    await requireNoTraces(this.host);
  }
}

describeOnHosts("a fault that the client meets", () => {
  beforeAll(async () => {
    fleet = await startHosts(NAMES, { diskGiB: 8, mounts: { [SUPPLIES_ON_HOST]: supplies.supplies } });
    await Promise.all(fleet.hosts.map((host) => host.exec("touch /srv/taken")));
    await Promise.all([
      playKilled(new OneHost("killed", "kill"), new OneHost("second", "kill", PORT + 1)),
      playRefusals(new OneHost("refused", "refuse")),
      playMoves(new OneHost("moved", "move")),
    ]);
    run.keep();
  }, 600_000);
  afterAll(async () => {
    await fleet?.close();
    for (const deployment of deployments) deployment.remove();
  });

  it.each(casesOf(__filename))("$fault: $step", ({ fault, step }) => {
    run.expectGood(fault, step);
  });
});

/** The client with all that it started is killed in the middle of each step, the next run goes on; another stack finds the host taken. */
async function playKilled(one: OneHost, second: OneHost): Promise<void> {
  const middle = new Middle(one.host);
  const kill = async (command: "up" | "destroy", step: FaultStep, where?: string) => {
    const { caught } = await middle.watch(step, where);
    const client = one.deployment.start([command, "--yes"]);
    const ended = answerOf(client);
    try {
      await Promise.race([
        caught,
        ended.then(({ stderr }) => Promise.reject(new Error(`it ended before ${step}:\n${stderr}`))),
      ]);
    } finally {
      // Also a client that came nowhere ends, or all that follows would wait for it.
      for (const processId of [client.pid ?? 0, ...descendants(client.pid ?? 0)]) tryKill(processId);
      await ended;
      await middle.thaw();
    }
  };
  const during = (step: FaultStep) => async () => {
    await kill("up", step);
    return "nothing: it was killed";
  };
  const fault = "client and engine killed";
  const killed = (["lease", "runtime", "weights", "serving", "proof"] as const).map(
    (step) => [fault, step, during(step)] as const,
  );
  const taken = async () => {
    await one.up();
    return second.tells("up", /taken by the stack killed/);
  };
  const inDestroy = async () => {
    await kill("destroy", "serving", "log:stopping vLLM");
    return "nothing: it was killed";
  };
  const scenario = [...killed, ["two stacks on one host", "up", taken], [fault, "destroy", inDestroy]] as const;
  await run.play(scenario, async () => {
    // What was refused has begun nothing but its own record there, and takes that with it.
    await second.deployment.tandem(["destroy", "--yes"]);
    await one.destroy();
    await second.up();
    await second.destroy();
    return "up converges, destroy leaves a clean host";
  });
}

/** What is in the way before anything was done; then nothing is any more. */
async function playRefusals(one: OneHost): Promise<void> {
  const { host } = one;
  const wrongKey = path.join(one.deployment.folder, "wrong");
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", wrongKey]);
  const pinned = host.access().hostKey;
  const meanwhile = (begin: () => unknown, pattern: RegExp, end: () => unknown) => async () => {
    await begin();
    try {
      return await one.tells("up", pattern);
    } finally {
      await end();
    }
  };
  const settings = () => one.configure();
  await run.play(
    [
      [
        "unreachable",
        "up",
        meanwhile(
          () => host.partition(),
          /does not answer/,
          () => host.heal(),
        ),
      ],
      [
        "refused",
        "up",
        meanwhile(
          () => host.stopSshd(),
          /refuses the connection/,
          () => host.startSshd(),
        ),
      ],
      ["wrong key", "up", meanwhile(() => one.configure({ identityFile: wrongKey }), /lets nobody in/, settings)],
      [
        "no sudo",
        "up",
        meanwhile(() => one.configure({ user: "guest" }, { sudo: "always" }), /can't become root/, settings),
      ],
      [
        "port taken",
        "up",
        meanwhile(
          () => host.takePort(PORT),
          /port/,
          () => host.freePort(PORT),
        ),
      ],
      // The new key is right from now on: the user compares it and sets it.
      [
        "changed host key",
        "up",
        meanwhile(
          () => host.changeHostKey(),
          /not the pinned one/,
          () => one.configure({ hostKey: host.currentHostKey() }),
        ),
      ],
    ],
    async () => {
      if (host.currentHostKey() === pinned) throw new Error("the host's key did not change");
      await host.exec("touch /srv/taken");
      await one.up();
      await one.destroy();
      return "up converges, destroy leaves a clean host";
    },
  );
}

/** The host comes back with another address: once before an `up`, once before a `destroy`. */
async function playMoves(one: OneHost): Promise<void> {
  const { host } = one;
  const move = async () => {
    await host.changeAddress();
    await host.powerCycle();
    await host.exec("touch /srv/taken");
  };
  // An `up` leaves alone a host that does not answer, as every run does, and says so.
  const beforeUp = async () => {
    await move();
    const message = await one.tells("up", /does not answer/, true);
    one.configure();
    await one.up();
    return message;
  };
  const beforeDestroy = async () => {
    await move();
    const message = await one.tells("destroy", /does not answer/);
    one.configure();
    return message;
  };
  await one.up();
  const fault = "comes back with another address";
  await run.play(
    [
      [fault, "up", beforeUp],
      [fault, "destroy", beforeDestroy],
    ],
    async () => {
      await one.destroy();
      return "up converges, destroy leaves a clean host";
    },
  );
}

/** All that a process started and that still belongs to it. */
function descendants(processId: number): number[] {
  const parents = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => ({
      id: Number(name),
      parent: Number(read(`/proc/${name}/stat`).split(") ").at(-1)?.split(" ")[1]),
    }));
  const children = parents.filter(({ parent }) => parent === processId).map(({ id }) => id);
  return children.flatMap((child) => [child, ...descendants(child)]);
}

function tryKill(processId: number): void {
  try {
    process.kill(processId, "SIGKILL");
  } catch {
    // It ended with the one before.
  }
}
