import { LINK_NAMES, linkedDevices, readLinks, slowGroups } from "../../plan/topology";
import { isExclusive } from "../../plan/lease-defaults";
import type { Plan } from "../../plan/plan";
import { formatProblem } from "../../plan/problem";
import type { Settings } from "../../plan/settings";
import { findKnownCause } from "./causes";
import { describeTarget } from "./host";
import { observeHosts, withoutOwnUse } from "./observe";
import { planFor } from "./prepare";
import type { HostTarget } from "./request";
import { targetName } from "./targets";
import { callTarget } from "./transport";
import { describeXid } from "./xids";

export type Level = "ok" | "warn" | "fail";

/** One thing that was looked at on a host. */
export interface Verdict {
  readonly check: string;
  readonly verdict: Level;
  readonly text: string;
  /** What to do about it. */
  readonly cure?: string;
}

export interface Diagnosis {
  readonly host: string;
  /** The worst of its verdicts. */
  readonly status: Level;
  readonly seconds: number;
  readonly verdicts: readonly Verdict[];
}

/** Limit of all checks on a host, and of the call as a whole. */
const EXAMINATION_SECONDS = 25;
const CALL_SECONDS = 60;
/** A clock that is off by more breaks TLS and apt sooner or later. */
const CLOCK_TOLERANCE_SECONDS = 60;
/** CUDA 13, which the runtimes are built for, needs this driver branch. */
const DRIVER_FLOOR = "580";

/**
 * Examines one host without changing anything, and says what the plan for it would be.
 * Never throws: a host that can't be reached is a verdict.
 */
export async function examineHost(target: HostTarget, settings: Settings, stack: string): Promise<Diagnosis> {
  const startedAt = Date.now();
  const [examined, planned] = await Promise.all([examine(target, settings, stack), planOn(target, settings, stack)]);
  const verdicts = [
    ...examined.verdicts,
    // A host that does not answer has been told of already.
    ...(examined.isReached ? judgePlan(planned, examined.links) : []),
  ];
  return {
    host: targetName(target),
    status: worst(verdicts),
    seconds: (Date.now() - startedAt) / 1000,
    verdicts,
  };
}

/** The worst of some verdicts. */
export function worst(verdicts: readonly { readonly verdict: Level }[]): Level {
  if (verdicts.some(({ verdict }) => verdict === "fail")) return "fail";
  return verdicts.some(({ verdict }) => verdict === "warn") ? "warn" : "ok";
}

interface Examination {
  readonly isReached: boolean;
  readonly verdicts: readonly Verdict[];
  /** As `readLinks` takes them. */
  readonly links: string;
}

async function examine(target: HostTarget, settings: Settings, stack: string): Promise<Examination> {
  const startedAt = Date.now();
  let heardAt: number | undefined;
  try {
    const answer = await callTarget(target, {
      script: "doctor.sh",
      argv: [],
      environment: {
        TANDEM_STACK: stack,
        TANDEM_PORT: String(settings.port),
        TANDEM_TARGET: target.kind,
        TANDEM_GPUS: String(settings.devices?.length ?? settings.gpus),
        TANDEM_EXCLUSIVE: String(isExclusive(settings)),
        TANDEM_DOCTOR_SECONDS: String(EXAMINATION_SECONDS),
        DRIVER_FLOOR,
      },
      onOutput: () => (heardAt ??= Date.now()),
      timeoutSeconds: CALL_SECONDS,
    });
    const lines = parseLines(answer.stdout);
    if (lines.length === 0) {
      const words = answer.stderr.split("\n").filter((line) => line.trim() !== "");
      return unreached(target, words.at(-1) ?? `the examination ended with exit ${answer.code}`);
    }
    const seconds = ((heardAt ?? Date.now()) - startedAt) / 1000;
    const reached: Verdict = { check: "reach", verdict: "ok", text: `answers after ${seconds.toFixed(1)} s` };
    return {
      isReached: true,
      verdicts: [reached, ...lines.flatMap((line) => judge(line, startedAt, heardAt ?? Date.now()))],
      links: lines.find(({ code }) => code === "links")?.text ?? "",
    };
  } catch (error) {
    return unreached(target, error instanceof Error ? error.message : String(error));
  }
}

function unreached(target: HostTarget, why: string): Examination {
  // Why ssh does not get there is said with the host's name and what helps; the known causes are of what hosts say.
  const [what = why, fix] = why.split(" — fix: ");
  const name = describeTarget(target);
  const text = what.startsWith(name) ? what : `${name} can't be examined: ${what}`;
  const cure = fix ?? findKnownCause(why)?.cure;
  return { isReached: false, verdicts: [{ check: "reach", verdict: "fail", text, cure }], links: "" };
}

/** One line of `doctor.sh`. */
interface Line {
  readonly code: string;
  readonly verdict: string;
  readonly text: string;
  readonly cure: string;
}

function parseLines(output: string): Line[] {
  return output
    .split("\n")
    .map((line) => line.split("\t"))
    .filter((fields) => fields.length >= 3)
    .map(([code = "", verdict = "", text = "", cure = ""]) => ({ code, verdict, text, cure }));
}

function judge({ code, verdict, text, cure }: Line, startedAt: number, heardAt: number): Verdict[] {
  if (verdict === "ok" || verdict === "warn" || verdict === "fail") {
    return [{ check: code, verdict, text, ...(cure !== "" && { cure }) }];
  }
  if (code === "time") return [judgeClock(Number(text), startedAt / 1000, heardAt / 1000)];
  return code === "xid" ? [judgeXid(text)] : [];
}

/** The host read its clock somewhere between the call and its first word: within that, nothing can be told. */
export function judgeClock(hostSeconds: number, startedSeconds: number, heardSeconds: number): Verdict {
  const expected = Math.min(Math.max(hostSeconds, Math.floor(startedSeconds)), heardSeconds);
  const offset = Math.round(hostSeconds - expected);
  if (Math.abs(offset) <= CLOCK_TOLERANCE_SECONDS) {
    return { check: "clock", verdict: "ok", text: "the clock agrees with this client's" };
  }
  return {
    check: "clock",
    verdict: "warn",
    text: `the clock is ${duration(Math.abs(offset))} ${offset > 0 ? "ahead of" : "behind"} this client's: TLS and apt fail on it`,
    cure: "sudo timedatectl set-ntp true, or set it: sudo date -s @$(date +%s) with this client's time",
  };
}

/** `<number> <count> <seconds since the last> <PCI address> <message>` */
function judgeXid(text: string): Verdict {
  const [code = "", count = "", ago = "", address = "", ...message] = text.split(" ");
  const { verdict, meaning, cure } = describeXid(Number(code));
  const times = count === "1" ? "once" : `${count} times`;
  return {
    check: "xid",
    verdict,
    text: `Xid ${code} on ${address}, ${times}, last ${duration(Number(ago))} ago: ${meaning} (${message.join(" ")})`,
    cure,
  };
}

function duration(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

type Planned = { readonly plan: Plan } | { readonly verdict: Verdict };

async function planOn(target: HostTarget, settings: Settings, stack: string): Promise<Planned> {
  try {
    const [observed] = await observeHosts([target], settings, stack);
    if (observed === undefined) throw new Error(`${describeTarget(target)} does not answer`);
    const [planned] = await planFor(settings, [{ target, facts: withoutOwnUse(observed.host) }]);
    if (planned === undefined) throw new Error("there was nothing to plan");
    const { result } = planned;
    if (result.plan !== undefined) return { plan: result.plan };
    const text = `does not fit: ${result.problems.map(formatProblem).join("; ")}`;
    return { verdict: { check: "plan", verdict: "fail", text, cure: result.alternatives[0]?.text } };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { verdict: { check: "plan", verdict: "warn", text: `no plan could be made: ${why.split("\n").join(" ")}` } };
  }
}

function judgePlan(planned: Planned, links: string): Verdict[] {
  if (!("plan" in planned)) return [planned.verdict];
  const { plan } = planned;
  const layout = `tensor parallel ${plan.tensorParallel}${plan.replicas > 1 ? ` x ${plan.replicas} replicas` : ""}`;
  const place = plan.device === "cpu" ? "the CPU" : `GPU ${plan.gpuIndices.join(", ")}`;
  const text = `${plan.model} ${plan.verdict === "tight" ? "fits, but tightly" : "fits"}: ${layout} on ${place}`;
  return [{ check: "plan", verdict: plan.verdict === "tight" ? "warn" : "ok", text }, ...judgeLinks(plan, links)];
}

/** Whether the GPUs of each copy of the model are joined by NVLink. */
export function judgeLinks(plan: Pick<Plan, "gpuIndices" | "tensorParallel">, links: string): Verdict[] {
  const pairs = readLinks(links);
  if (pairs.length === 0) return [];
  const slow = slowGroups(plan, pairs);
  if (slow.length === 0) {
    const all = pairs.every(({ link }) => link === "nvlink");
    const text = all ? "all GPUs are joined by NVLink" : "no copy of the model crosses a link slower than NVLink";
    return [{ check: "links", verdict: "ok", text }];
  }
  const better = linkedDevices(plan, pairs);
  const groups = slow.map(({ gpus, link }) => `GPUs ${gpus.join(", ")} (${LINK_NAMES[link]})`).join("; ");
  return [
    {
      check: "links",
      verdict: "warn",
      text: `tensor parallel ${plan.tensorParallel} crosses links slower than NVLink: ${groups}`,
      cure:
        better === undefined
          ? "use a smaller tensorParallel with more replicas where the model fits"
          : `use GPUs that NVLink joins: --devices ${better.join(",")}`,
    },
  ];
}
