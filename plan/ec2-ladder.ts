import { findInstanceType, INSTANCE_TYPES, nominalGpuMemoryGb, type InstanceType } from "./ec2-catalogue";
import { exposureProblems, reachProblems } from "./ec2-reach";
import { nearestName } from "./nearest";
import type { Problem } from "./problem";
import type { Settings } from "./settings";
import type { Market } from "./settings-ec2";

/** One choice of the ladder; without a zone, every zone that offers the type will do. */
export interface Rung {
  readonly instanceType: string;
  readonly zone?: string;
  readonly market: Market;
}

export type Ec2Settings = NonNullable<Settings["ec2"]>;

/** The block of `target: ec2`. @throws Error where the settings' rules were not asked */
export function ec2Of({ ec2 }: Pick<Settings, "ec2">): Ec2Settings {
  if (ec2 === undefined) throw new Error("target ec2 without its settings");
  return ec2;
}

/**
 * Every choice in the order in which they are tried: written out, or markets × types × zones. All of one market come before
 * those of the next, since one request to EC2 buys in one market only.
 */
export function ladderOf(settings: Settings): Rung[] {
  const { ladder, zones, markets } = ec2Of(settings);
  if (ladder !== undefined) return ladder.map((rung) => ({ ...rung }));
  const types = typesToTry(settings);
  return markets.flatMap((market) =>
    types.flatMap((instanceType) =>
      zones === undefined ? [{ instanceType, market }] : zones.map((zone): Rung => ({ instanceType, zone, market })),
    ),
  );
}

/** Neighbours of the same market together: each is one request to EC2. */
export function runsOf<Choice extends Pick<Rung, "market">>(rungs: readonly Choice[]): Choice[][] {
  const runs: Choice[][] = [];
  for (const rung of rungs) {
    const last = runs.at(-1);
    if (last?.[0]?.market === rung.market) last.push(rung);
    else runs.push([rung]);
  }
  return runs;
}

/** `g6.12xlarge in us-east-1a, spot`. */
export function describeRung({ instanceType, zone, market }: Rung): string {
  return `${instanceType}${zone === undefined ? "" : ` in ${zone}`}, ${market}`;
}

function typesToTry(settings: Settings): string[] {
  const { instanceTypes } = ec2Of(settings);
  return instanceTypes === undefined ? wishedTypes(settings).map(({ name }) => name) : [...new Set(instanceTypes)];
}

/**
 * The catalogue's types that grant a wish, the cheapest first: exactly as many GPUs as are wanted, or, where no type has that
 * many, the next number that one has.
 */
function wishedTypes(settings: Settings): InstanceType[] {
  const { minGpuMemoryGiB = 0, efa } = ec2Of(settings);
  const wanted = wishedGpus(settings);
  if (wanted === undefined) return [];
  const matching = INSTANCE_TYPES.filter(
    (type) =>
      type.gpus >= wanted &&
      nominalGpuMemoryGb(type) >= minGpuMemoryGiB &&
      (settings.gpuType === undefined || type.gpuType === settings.gpuType.toLowerCase()) &&
      (!efa || type.efa),
  );
  const gpus = Math.min(...matching.map((type) => type.gpus));
  return matching
    .filter((type) => type.gpus === gpus)
    .toSorted((one, other) => one.approximatePriceUsd - other.approximatePriceUsd);
}

function wishedGpus({ gpus, devices }: Settings): number | undefined {
  if (devices !== undefined) return Math.max(...devices) + 1;
  return gpus === "all" || gpus === 0 ? undefined : gpus;
}

/** Everything that is wrong with the block itself, before any network. */
export function ec2Problems(settings: Settings): Problem[] {
  if (settings.target !== "ec2" || settings.ec2 === undefined) return [];
  return [...choiceProblems(settings, settings.ec2), ...reachProblems(settings.ec2), ...exposureProblems(settings)];
}

function choiceProblems(settings: Settings, ec2: Ec2Settings): Problem[] {
  const { region, ladder, instanceTypes, zones, efa } = ec2;
  const setting = ladder === undefined ? "ec2.instanceTypes" : "ec2.ladder";
  const written = ladder?.map(({ instanceType }) => instanceType) ?? instanceTypes ?? [];
  const strangers = [...new Set(written)].filter((name) => findInstanceType(name) === undefined);
  const abroad = [...(zones ?? []), ...(ladder ?? []).flatMap(({ zone }) => zone ?? [])].filter(
    (zone) => !zone.startsWith(region),
  );
  const withoutEfa = efa ? written.filter((name) => findInstanceType(name)?.efa === false) : [];
  return [
    ...strangers.map((name) => ({ setting, ...unknownType(name) })),
    ...abroad.map((zone) => ({
      setting: ladder === undefined ? "ec2.zones" : "ec2.ladder",
      what: "the zone is of another region",
      value: zone,
      allowed: `a zone of ${region}`,
    })),
    ...withoutEfa.map((name) => ({
      setting: "ec2.efa",
      what: "this type has no Elastic Fabric Adapter",
      value: name,
      fix: "leave the type out, or `ec2.efa`",
    })),
    ...(written.length === 0 ? wishProblems(settings) : []),
  ];
}

function unknownType(name: string): Pick<Problem, "what" | "value" | "allowed" | "fix"> {
  const names = INSTANCE_TYPES.map((type) => type.name);
  const near = nearestName(name, names);
  const allowed = `types of ${[...new Set(names.map((known) => known.split(".")[0]))].join(", ")}`;
  return {
    what: "the catalogue has no such type with NVIDIA GPUs",
    value: name,
    allowed,
    ...(near !== undefined && { fix: `use \`${near}\`` }),
  };
}

function wishProblems(settings: Settings): Problem[] {
  if (wishedGpus(settings) === undefined) {
    const fix = "set `gpus: 4`, say, or `ec2.instanceTypes: [g6.12xlarge]`";
    return [
      { setting: "gpus", what: "says no number to choose a machine by", value: JSON.stringify(settings.gpus), fix },
    ];
  }
  if (wishedTypes(settings).length > 0) return [];
  const most = INSTANCE_TYPES.map((type) => `${type.gpus} × ${type.gpuType}`);
  return [
    {
      setting: "ec2.minGpuMemoryGiB",
      what: "no type of the catalogue has that",
      value: `${settings.gpus} GPUs with at least ${ec2Of(settings).minGpuMemoryGiB ?? 0} GiB`,
      allowed: [...new Set(most)].join(", "),
      fix: "ask for fewer GPUs or less memory",
    },
  ];
}
