import { expect } from "vitest";
import {
  casesOf,
  type End,
  type FaultRow,
  type FaultStep,
  keepRows,
  keyOf,
  type MiddleFault,
  requireClean,
  requireClear,
} from "./faults-cases";
import { CANARY, type StepsOnHost } from "./faults-steps";

const seconds = (count: number) => new Promise((resolve) => setTimeout(resolve, count * 1000));
/** For how long a runner of its own looks for a host that is gone. */
const SHORT = { TANDEM_RECONNECT_SECONDS: "3" };

/** Makes something go wrong and waits until that is over; answers with what the user read. */
export type Act = () => Promise<string>;
export type Scenario = readonly (readonly [fault: string, step: string, act: Act])[];

/** The cases of one test file and what became of them. */
export class FaultRun {
  private readonly rows = new Map<string, FaultRow>();

  constructor(private readonly file: string) {}

  /**
   * Acts one after the other on one host, then ends well or not, for all of them. Nothing is thrown: what is wrong stands in the rows.
   * @param finish proves how it ended
   */
  async play(scenario: Scenario, finish: () => Promise<End>): Promise<void> {
    const played: FaultRow[] = [];
    for (const [fault, step, act] of scenario) {
      const startedAt = Date.now();
      const result = await act().then(
        (message) => ({ message }),
        (error: unknown) => ({ message: "", wrong: String(error) }),
      );
      const row = { fault, step, file: this.nameOfFile, seconds: (Date.now() - startedAt) / 1000 };
      const message = result.message.split("\n")[0] ?? "";
      console.log(`${row.seconds.toFixed(0)} s, ${fault}: ${step}${"wrong" in result ? ` — ${result.wrong}` : ""}`);
      played.push({ ...row, ...result, message, ended: "not ended well" });
    }
    const end = await finish().then(
      (ended) => ({ ended }),
      (error: unknown) => ({ ended: "not ended well" as const, wrong: String(error) }),
    );
    for (const row of played) this.rows.set(keyOf(row), { ...end, ...row, ended: end.ended, ...wrongOf(row, end) });
  }

  /** Fails when the row is red or missing; says all that is known of it. */
  expectGood(fault: string, step: string): void {
    const row = this.rows.get(keyOf({ fault, step }));
    const isGood = row !== undefined && row.wrong === undefined && row.ended !== "not ended well";
    expect(isGood, JSON.stringify(row, null, 2)).toBe(true);
  }

  /** Keeps the rows; call it when all scenarios are over. */
  keep(): void {
    const missing = casesOf(this.file).filter((one) => !this.rows.has(keyOf(one)));
    const red = missing.map((one) => ({
      ...one,
      message: "",
      seconds: 0,
      ended: "not ended well" as const,
      wrong: "not run",
    }));
    keepRows(this.file, [...this.rows.values(), ...red]);
  }

  private get nameOfFile(): string {
    return casesOf(this.file)[0]?.file ?? this.file;
  }
}

function wrongOf(row: { wrong?: string }, end: { ended: string; wrong?: string }): { wrong?: string } {
  const wrong = row.wrong ?? end.wrong;
  return wrong === undefined ? {} : { wrong };
}

/** What is said of a mended link, from the progress of a step. */
function lineOf(lines: readonly string[], pattern: RegExp): string {
  const line = lines.find((candidate) => pattern.test(candidate));
  if (line === undefined) throw new Error(`nothing was said that matches ${String(pattern)}:\n${lines.join("\n")}`);
  return line;
}

/** Applies a step and makes `fault` happen while its work stands still in its middle. */
async function caught(steps: StepsOnHost, step: FaultStep, fault: () => Promise<void>): Promise<string[]> {
  const from = steps.lines.length;
  const { caught } = await steps.middle.watch(step);
  const work = steps.apply(step);
  work.catch(() => undefined);
  await Promise.race([caught, work.then(() => Promise.reject(new Error(`${step} ended before it was caught`)))]);
  await fault();
  await work;
  return steps.lines.slice(from);
}

/** Starts the runner on a step, and does something while its work stands still; answers with what the runner said. */
async function caughtRunner(
  steps: StepsOnHost,
  step: FaultStep,
  act: (kill: () => void) => Promise<void>,
): Promise<string> {
  const { caught } = await steps.middle.watch(step);
  const { child, answer } = steps.startRunner(step, SHORT);
  await caught;
  await act(() => child.kill("SIGKILL"));
  return (await answer).stderr;
}

/** The runner gives a host up that is gone in the middle of a step; answers with its message, which has to be clear. */
export async function givenUp(steps: StepsOnHost, step: FaultStep, fault: () => Promise<void>): Promise<string> {
  const said = await caughtRunner(steps, step, fault);
  const message = said.slice(Math.max(0, said.indexOf(`${step} failed on`)));
  requireClear(message, steps.host.name, CANARY);
  return message;
}

/** The runner fails at a step; answers with its message, which has to be clear. */
export async function toldByRunner(
  steps: StepsOnHost,
  step: FaultStep,
  variables: Readonly<Record<string, string>>,
): Promise<string> {
  const { stderr } = await steps.startRunner(step, variables).answer;
  const message = stderr.slice(Math.max(0, stderr.indexOf(`${step} failed on`)));
  requireClear(message, steps.host.name, CANARY);
  return message;
}

const ACTS: Readonly<Record<MiddleFault, (steps: StepsOnHost, step: FaultStep) => Promise<string>>> = {
  "link cut for 20 s": async (steps, step) => {
    const { host, middle } = steps;
    const lines = await caught(steps, step, async () => {
      await host.partition();
      await seconds(20);
      await host.heal();
      await middle.thaw();
    });
    return lineOf(lines, /lost the link to/);
  },
  "link cut for ever": async (steps, step) => {
    const { host, middle } = steps;
    const message = await givenUp(steps, step, () => host.partition()).finally(async () => {
      await host.heal();
      await middle.thaw();
    });
    await steps.apply(step);
    return message;
  },
  "power loss": async (steps, step) => {
    const lines = await caught(steps, step, () => steps.host.powerCycle());
    return lineOf(lines, /its work ended with the host's restart; doing it again/);
  },
  "sshd restarted": async (steps, step) => {
    const lines = await caught(steps, step, async () => {
      await steps.host.restartSshd();
      await steps.middle.thaw();
    });
    return lines.find((line) => line.includes("lost the link")) ?? "nothing: running sessions stay";
  },
  "client killed, then destroy": async (steps, step) => {
    await steps.applyBefore(step);
    await caughtRunner(steps, step, (kill) => {
      kill();
      return Promise.resolve();
    });
    const from = steps.lines.length;
    await Promise.all([steps.destroy(), steps.middle.thaw()]);
    return lineOf(steps.lines.slice(from), /nothing of the stack faults is left on this host/);
  },
};

/** The power is gone in the middle of a step; answers with what was said. */
export function powerLost(steps: StepsOnHost, step: FaultStep): Promise<string> {
  return ACTS["power loss"](steps, step);
}

/** The client is killed while the work of a step stands still in its middle; the work goes on without it. */
export async function clientKilled(steps: StepsOnHost, step: FaultStep): Promise<void> {
  const kill = (end: () => void) => {
    end();
    return Promise.resolve();
  };
  await caughtRunner(steps, step, kill);
  await steps.middle.thaw();
}

/** One fault in the middle of several steps of one host, the steps between applied in their order; then `up`, then `destroy`. */
export async function playMiddle(
  run: FaultRun,
  steps: StepsOnHost,
  fault: MiddleFault,
  names: readonly FaultStep[],
): Promise<void> {
  const isDestroyed = fault === "client killed, then destroy";
  const scenario = names.map((name, index) => {
    const act = async () => {
      if (!isDestroyed) {
        const first = index === 0 ? 0 : steps.stepNames.indexOf(names[index - 1] ?? name) + 1;
        for (const step of steps.stepNames.slice(first, steps.stepNames.indexOf(name))) await steps.apply(step);
      }
      return ACTS[fault](steps, name);
    };
    return [fault, name, act] as const;
  });
  await run.play(scenario, () => (isDestroyed ? cleanEnd(steps) : goodEnd(steps)));
}

async function cleanEnd(steps: StepsOnHost): Promise<End> {
  await steps.destroy();
  requireNothing(steps);
  return "destroy leaves a clean host";
}

/** `up` again makes it right, `destroy` leaves nothing, and no output held a secret or a stack trace. */
export async function goodEnd(steps: StepsOnHost): Promise<End> {
  await steps.converge();
  await steps.destroy();
  requireNothing(steps);
  return "up converges, destroy leaves a clean host";
}

function requireNothing(steps: StepsOnHost): void {
  const wrong = requireClean(`\n${steps.lines.join("\n")}`, CANARY);
  if (wrong.length > 0) throw new Error(`what was said ${wrong.join(", ")}`);
}

/** An action that must fail; answers with its message, which has to be clear. */
export async function refused(steps: StepsOnHost, act: () => Promise<unknown>, pattern: RegExp): Promise<string> {
  const message = await act().then(
    () => "",
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
  if (!pattern.test(message)) throw new Error(`expected a refusal ${String(pattern)}, got: ${message || "none"}`);
  requireClear(message, steps.host.name, CANARY);
  return message;
}
