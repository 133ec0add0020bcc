import { planCost } from "./cost";
import { CATALOGUE_SOURCE, findInstanceType, instanceFacts, type InstanceType } from "./ec2-catalogue";
import { describeRung, ec2Of, ladderOf, type Rung } from "./ec2-ladder";
import { makePlan } from "./make-plan";
import type { ModelShape } from "./model-shape";
import type { Alternative, Plan } from "./plan";
import type { Problem } from "./problem";
import type { Settings } from "./settings";
import { durationSeconds } from "./time";

/** The choices that a stack may buy, each with a plan that fits on it. */
export interface Ec2Plan {
  /** What is tried, in this order. */
  readonly rungs: readonly Rung[];
  /** By the name of the type. */
  readonly plans: Readonly<Record<string, Plan>>;
  /** The plan of the first choice, at the price of the dearest: what is shown until there is a machine. */
  readonly plan: Plan;
  /** Of all machines together, of the dearest choice: the run costs no more. Approximate. */
  readonly highestPricePerHourUsd: number;
  /** Why choices fell away, for people. */
  readonly dropped: readonly string[];
}

export type Ec2PlanResult =
  | { readonly ec2: Ec2Plan; readonly problems: readonly [] }
  | { readonly ec2?: undefined; readonly problems: readonly Problem[]; readonly alternatives: readonly Alternative[] };

/** What is known of one type: a plan, or why it is not to be bought. */
interface Judged {
  readonly type: InstanceType;
  readonly priceUsd: number;
  readonly plan?: Plan;
  readonly problems: readonly Problem[];
  readonly alternatives: readonly Alternative[];
}

/**
 * Plans on the catalogue's facts, before any machine exists: choices on which the model does not fit and those that cost more than
 * the limits fall away.
 * @returns what is left; or, when nothing is, why for the choice that comes nearest
 */
export function planEc2(settings: Settings, shape: ModelShape): Ec2PlanResult {
  const rungs = ladderOf(settings);
  const judged = [...new Set(rungs.map(({ instanceType }) => instanceType))].flatMap((name) => {
    const type = findInstanceType(name);
    return type === undefined ? [] : [judge(settings, shape, type)];
  });
  const plans = Object.fromEntries(judged.flatMap(({ type, plan }) => (plan === undefined ? [] : [[type.name, plan]])));
  const left = rungs.filter(({ instanceType }) => plans[instanceType] !== undefined);
  const plan = plans[left[0]?.instanceType ?? ""];
  if (plan === undefined) return nothingLeft(judged);
  const highestPricePerHourUsd = Math.max(
    ...judged.filter(({ plan }) => plan !== undefined).map((one) => one.priceUsd),
  );
  return {
    ec2: {
      rungs: left,
      plans,
      plan: {
        ...plan,
        cost: planCost(settings, highestPricePerHourUsd),
        reasons: [...reasonsFor(settings, left, judged), ...plan.reasons],
      },
      highestPricePerHourUsd,
      dropped: judged.flatMap(({ type, plan, problems }) =>
        plan === undefined
          ? [`${type.name} is not tried: ${withoutName(problems[0]?.what ?? "", type)} (${problems[0]?.value ?? ""})`]
          : [],
      ),
    },
    problems: [],
  };
}

function withoutName(what: string, { name }: InstanceType): string {
  return what.startsWith(`${name} `) ? what.slice(name.length + 1) : what;
}

/** The price of all machines of a stack, if they are of this type: roughly, in US dollars an hour. */
export function priceOf(settings: Settings, type: InstanceType): number {
  return Math.round(type.approximatePriceUsd * ec2Of(settings).machines * 1000) / 1000;
}

function judge(settings: Settings, shape: ModelShape, type: InstanceType): Judged {
  const priceUsd = priceOf(settings, type);
  const tooDear = priceProblems(settings, type, priceUsd);
  const result = makePlan({ settings, shape, hosts: [instanceFacts(type)], pricePerHourUsd: priceUsd });
  const problems = [...tooDear, ...result.problems];
  if (problems.length > 0) {
    return {
      type,
      priceUsd,
      problems: unique(problems),
      alternatives: result.plan === undefined ? result.alternatives : [],
    };
  }
  return { type, priceUsd, plan: result.plan, problems: [], alternatives: [] };
}

/** `makePlan` has a word on the price too. */
function unique(problems: readonly Problem[]): Problem[] {
  return problems.filter(
    ({ setting }, index) =>
      setting !== "maxPricePerHourUsd" || problems.findIndex((other) => other.setting === setting) === index,
  );
}

function priceProblems(settings: Settings, type: InstanceType, priceUsd: number): Problem[] {
  const { maxPricePerHourUsd, budgetUsd, ttl } = settings;
  const { machines } = ec2Of(settings);
  const what = machines === 1 ? type.name : `${machines} × ${type.name}`;
  if (maxPricePerHourUsd !== undefined && priceUsd > maxPricePerHourUsd) {
    return [
      {
        setting: "maxPricePerHourUsd",
        what: `${what} costs more than that`,
        value: `about ${priceUsd} US dollars an hour`,
        allowed: `at most ${maxPricePerHourUsd}`,
        fix: "choose a cheaper type or raise the limit",
      },
    ];
  }
  const hours = (durationSeconds(ttl ?? "") ?? 0) / 3600;
  const wholeUsd = Math.round(hours * priceUsd * 100) / 100;
  if (budgetUsd === undefined || wholeUsd <= budgetUsd) return [];
  return [
    {
      setting: "budgetUsd",
      what: `${what} for ${ttl} costs more than that`,
      value: `about ${wholeUsd} US dollars`,
      allowed: `at most ${budgetUsd}`,
      fix: `set \`ttl\` to ${Math.max(1, Math.floor((budgetUsd / priceUsd) * 60))}m or less, choose a cheaper type, or raise the limit`,
    },
  ];
}

function nothingLeft(judged: readonly Judged[]): Ec2PlanResult {
  // The largest machine comes nearest when the model does not fit, the cheapest when money is what lacks.
  const isMoney = ({ problems }: Judged) =>
    problems.every(({ setting }) => /^(maxPricePerHourUsd|budgetUsd)$/.test(setting));
  const byMoney = judged.filter(isMoney).toSorted((one, other) => one.priceUsd - other.priceUsd);
  const [nearest] = byMoney.length > 0 ? byMoney : judged.toSorted((one, other) => other.priceUsd - one.priceUsd);
  const problems = (nearest?.problems ?? []).map((problem) =>
    problem.what.includes(nearest?.type.name ?? "")
      ? problem
      : { ...problem, what: `on ${nearest?.type.name}: ${problem.what}` },
  );
  return { problems, alternatives: nearest?.alternatives ?? [] };
}

function reasonsFor(settings: Settings, rungs: readonly Rung[], judged: readonly Judged[]): string[] {
  const { machines, region } = ec2Of(settings);
  const prices = judged.filter(({ plan }) => plan !== undefined).map(({ priceUsd }) => priceUsd);
  const span = [...new Set([Math.min(...prices), Math.max(...prices)])].join(" to ");
  const shown = rungs.slice(0, 6).map(describeRung);
  const more = rungs.length > shown.length ? `; and ${rungs.length - shown.length} more` : "";
  return [
    `${machines === 1 ? "one machine" : `${machines} machines`} in ${region}, tried in this order: ${shown.join("; ")}${more}`,
    `price: ${span} US dollars an hour for all machines, by ${CATALOGUE_SOURCE.prices}; ${CATALOGUE_SOURCE.caveat}`,
  ];
}
