import {
  DescribeFleetsCommand,
  DescribePlacementGroupsCommand,
  type EC2Client,
  type Instance,
  paginateDescribeInstances,
  paginateDescribeSpotInstanceRequests,
  paginateDescribeTags,
} from "@aws-sdk/client-ec2";
import { paginateGetResources, ResourceGroupsTaggingAPIClient } from "@aws-sdk/client-resource-groups-tagging-api";
import { CREATED_BY, RUN_TAGS } from "../../plan/run-tags";
import type { Clients } from "./clients";
import type { CloudThing } from "./kinds";
import { errorCode } from "./ladder-errors";
import { EC2_TAGS } from "./machines";

/** What is over: nothing of it costs anything, and nothing can be done about it. */
const OVER: Readonly<Record<string, readonly string[]>> = {
  instance: ["terminated"],
  "spot-instances-request": ["closed", "cancelled", "failed"],
  fleet: ["deleted", "deleted_terminating", "deleted_running", "failed"],
};

/**
 * Everything in one region that says by its tags that Tandem made it and that is still there, of one stack or of all. EC2 is asked
 * for the tags of all its kinds at once, so that no kind can be forgotten; the tagging API for all other services.
 */
export async function findThings(clients: Clients, stack?: string): Promise<CloudThing[]> {
  const [tagged, elsewhere] = await Promise.all([taggedInEc2(clients, stack), taggedElsewhere(clients, stack)]);
  const wanted = [...tagged, ...elsewhere].filter(
    ({ tags }) => tags[RUN_TAGS.createdBy] === CREATED_BY && (stack === undefined || tags[RUN_TAGS.stack] === stack),
  );
  const states = await statesOf(clients.ec2, wanted);
  return wanted
    .map((thing) => ({ ...thing, ...states.get(thing.id) }))
    .filter(({ type, state }) => state === undefined || OVER[type]?.includes(state) !== true);
}

async function taggedInEc2({ ec2, region }: Clients, stack: string | undefined): Promise<CloudThing[]> {
  const ours = { Name: "key", Values: ["tandem:*"] };
  if (stack === undefined) return collectTags(ec2, region, [ours]);
  const ofStack = [
    { Name: "key", Values: [RUN_TAGS.stack] },
    { Name: "value", Values: [stack] },
  ];
  const ids = (await collectTags(ec2, region, ofStack)).map(({ id }) => id);
  const parts = Array.from({ length: Math.ceil(ids.length / MOST_IDS) }, (_, part) =>
    collectTags(ec2, region, [
      ours,
      { Name: "resource-id", Values: ids.slice(part * MOST_IDS, (part + 1) * MOST_IDS) },
    ]),
  );
  return (await Promise.all(parts)).flat();
}

/** What one filter may hold. */
const MOST_IDS = 200;

async function collectTags(
  ec2: EC2Client,
  region: string,
  Filters: { Name: string; Values: string[] }[],
): Promise<CloudThing[]> {
  const found = new Map<string, { type: string; tags: Record<string, string> }>();
  for await (const { Tags = [] } of paginateDescribeTags({ client: ec2 }, { Filters })) {
    for (const { ResourceId: id, ResourceType: type, Key, Value } of Tags) {
      if (id === undefined || Key === undefined) continue;
      const entry = found.get(id) ?? { type: type ?? "", tags: {} };
      entry.tags[Key] = Value ?? "";
      found.set(id, entry);
    }
  }
  return [...found].map(([id, { type, tags }]) => ({ region, type, id, tags }));
}

/** What one page of the tagging API may hold. */
const MOST_TAGS = 500;

async function taggedElsewhere({ region, ec2 }: Clients, stack: string | undefined): Promise<CloudThing[]> {
  const tagging = new ResourceGroupsTaggingAPIClient({ region, requestHandler: ec2.config.requestHandler });
  const things: CloudThing[] = [];
  const TagFilters = [
    { Key: RUN_TAGS.createdBy, Values: [CREATED_BY] },
    ...(stack === undefined ? [] : [{ Key: RUN_TAGS.stack, Values: [stack] }]),
  ];
  const pages = paginateGetResources({ client: tagging }, { TagFilters, TagsPerPage: MOST_TAGS });
  for await (const { ResourceTagMappingList = [] } of pages) {
    for (const { ResourceARN: id = "", Tags = [] } of ResourceTagMappingList) {
      const [, , service, , , resource = ""] = id.split(":");
      if (service === "ec2") continue;
      const tags = Object.fromEntries(Tags.map(({ Key = "", Value = "" }) => [Key, Value]));
      things.push({ region, type: `${service ?? ""}:${resource.split("/")[0] ?? ""}`, id, tags });
    }
  }
  return things;
}

const WRITTEN_BY_EC2: readonly string[] = Object.values(EC2_TAGS);

type State = Pick<CloudThing, "state" | "launchedAt" | "name" | "isFromTemplate">;

/** What is over keeps its tags for a while, so the kinds that have a state are asked for it. */
async function statesOf(ec2: EC2Client, things: readonly CloudThing[]): Promise<Map<string, State>> {
  const idsOf = (type: string) => things.filter((thing) => thing.type === type).map(({ id }) => id);
  const found = await Promise.all([
    instanceStates(ec2, idsOf("instance")),
    requestStates(ec2, idsOf("spot-instances-request")),
    fleetStates(ec2, idsOf("fleet")),
    placementGroupNames(ec2, idsOf("placement-group")),
  ]);
  return new Map(found.flat());
}

async function instanceStates(ec2: EC2Client, ids: readonly string[]): Promise<[string, State][]> {
  if (ids.length === 0) return [];
  // A filter, since EC2 refuses a whole list of ids for one that it no longer knows. One that it does not show may be too young.
  const states = new Map<string, State>();
  const pages = paginateDescribeInstances({ client: ec2 }, { Filters: [{ Name: "instance-id", Values: [...ids] }] });
  for await (const { Reservations = [] } of pages) {
    for (const instance of Reservations.flatMap(({ Instances = [] }) => Instances)) {
      const isFromTemplate = instance.Tags?.some(({ Key = "" }) => WRITTEN_BY_EC2.includes(Key)) === true;
      const { InstanceId = "", State, LaunchTime } = instance;
      states.set(InstanceId, { state: State?.Name, launchedAt: LaunchTime, isFromTemplate });
      if (!isFromTemplate) for (const id of partsOf(instance)) states.set(id, { isFromTemplate });
    }
  }
  return [...states];
}

/** Volumes and interfaces that go with an instance. */
function partsOf({ BlockDeviceMappings = [], NetworkInterfaces = [] }: Instance): string[] {
  return [
    ...BlockDeviceMappings.flatMap(({ Ebs }) => Ebs?.VolumeId ?? []),
    ...NetworkInterfaces.flatMap(({ NetworkInterfaceId }) => NetworkInterfaceId ?? []),
  ];
}

async function requestStates(ec2: EC2Client, ids: readonly string[]): Promise<[string, State][]> {
  if (ids.length === 0) return [];
  const Filters = [{ Name: "spot-instance-request-id", Values: [...ids] }];
  const states: [string, State][] = [];
  for await (const { SpotInstanceRequests = [] } of paginateDescribeSpotInstanceRequests(
    { client: ec2 },
    { Filters },
  )) {
    for (const { SpotInstanceRequestId: id = "", State } of SpotInstanceRequests) states.push([id, { state: State }]);
  }
  return states;
}

/** One by one: a fleet of type instant is shown only to who names it, and one that is gone must not hide the others. */
async function fleetStates(ec2: EC2Client, ids: readonly string[]): Promise<[string, State][]> {
  return Promise.all(
    ids.map(async (id): Promise<[string, State]> => {
      try {
        const { Fleets = [] } = await ec2.send(new DescribeFleetsCommand({ FleetIds: [id] }));
        return [id, { state: Fleets[0]?.FleetState ?? "deleted" }];
      } catch (error) {
        if (/NotFound|InvalidFleetId/.test(errorCode(error))) return [id, { state: "deleted" }];
        throw error;
      }
    }),
  );
}

/** Placement groups are deleted by name. */
async function placementGroupNames(ec2: EC2Client, ids: readonly string[]): Promise<[string, State][]> {
  if (ids.length === 0) return [];
  const { PlacementGroups = [] } = await ec2.send(new DescribePlacementGroupsCommand({}));
  return PlacementGroups.filter(({ GroupId }) => ids.includes(GroupId ?? "")).map(({ GroupId = "", GroupName }) => [
    GroupId,
    { name: GroupName },
  ]);
}
