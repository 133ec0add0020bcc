import {
  CancelSpotFleetRequestsCommand,
  CancelSpotInstanceRequestsCommand,
  DeleteFleetsCommand,
  DeleteInternetGatewayCommand,
  DeleteKeyPairCommand,
  DeleteLaunchTemplateCommand,
  DeleteNetworkInterfaceCommand,
  DeletePlacementGroupCommand,
  DeleteRouteTableCommand,
  DeleteSecurityGroupCommand,
  DeleteSubnetCommand,
  DeleteVolumeCommand,
  DeleteVpcCommand,
  DescribeInternetGatewaysCommand,
  DescribeRouteTablesCommand,
  DetachInternetGatewayCommand,
  type EC2Client,
  ReleaseAddressCommand,
  TerminateInstancesCommand,
} from "@aws-sdk/client-ec2";
import { setTimeout as sleep } from "node:timers/promises";
import { CREATED_BY, RUN_TAGS } from "../../plan/run-tags";
import type { Clients } from "./clients";
import { type CloudThing, isKindName, KIND_NAMES, type KindName } from "./kinds";
import { errorCode } from "./ladder-errors";

/** What became of a thing. */
export interface Removal {
  readonly thing: CloudThing;
  readonly outcome: "removed" | "gone already" | "left";
  /** Why it is left. */
  readonly reason?: string;
}

export interface RemoveOptions {
  /** Called once for each thing, as soon as its fate is known. */
  readonly onRemoval?: (removal: Removal) => void;
  /** A machine with GPUs takes up to ten minutes to shut down. */
  readonly timeoutSeconds?: number;
  readonly pauseSeconds?: number;
}

const TIMEOUT_SECONDS = 1200;
const PAUSE_SECONDS = 3;

/** EC2's codes for what is not there (any more). */
const GONE = /NotFound|\.Unknown$|InvalidFleetId|Gateway\.NotAttached/;
/** EC2's codes for what still waits for something else to go. */
const IN_USE =
  /DependencyViolation|InUse|IncorrectState|IncorrectInstanceState|RequestLimitExceeded|Throttl|CannotDelete|ResourceInUse/;

type Answer = "removed" | "ending";

/**
 * Deletes things of one region in the right order, and again while they still hang on each other. May run several times at once:
 * what another run deleted meanwhile is as good as deleted.
 */
export async function removeThings(
  { ec2 }: Clients,
  things: readonly CloudThing[],
  options: RemoveOptions = {},
): Promise<Removal[]> {
  const { onRemoval, timeoutSeconds = TIMEOUT_SECONDS, pauseSeconds = PAUSE_SECONDS } = options;
  const deadline = Date.now() + timeoutSeconds * 1000;
  const removals: Removal[] = [];
  const settle = (removal: Removal) => {
    removals.push(removal);
    onRemoval?.(removal);
  };
  let waiting = inOrder(things);
  for (const thing of things.filter(({ type }) => !isKindName(type))) {
    settle({ thing, outcome: "left", reason: "tandem can't delete this kind" });
  }
  for (;;) {
    const round = await removeOnce(ec2, waiting, settle);
    waiting = round.map(({ thing }) => thing);
    if (waiting.length === 0) return removals;
    if (Date.now() > deadline) {
      for (const { thing, reason } of round) settle({ thing, outcome: "left", reason });
      return removals;
    }
    await sleep(pauseSeconds * 1000);
  }
}

function inOrder(things: readonly CloudThing[]): CloudThing[] {
  return KIND_NAMES.flatMap((kind) => things.filter(({ type }) => type === kind));
}

interface Waiting {
  readonly thing: CloudThing;
  readonly reason: string;
}

/** Tries each thing once, kind after kind. @returns what has to be tried again */
async function removeOnce(
  ec2: EC2Client,
  things: readonly CloudThing[],
  settle: (removal: Removal) => void,
): Promise<Waiting[]> {
  const waiting: Waiting[] = [];
  for (const kind of KIND_NAMES) {
    const ofKind = things.filter(({ type }) => type === kind);
    if (ofKind.length === 0) continue;
    // Everything else of a stack hangs on its machines: it is no use to try before they have ended.
    if (waiting.some(({ thing }) => thing.type === "instance")) {
      waiting.push(...ofKind.map((thing) => ({ thing, reason: "it waits for the machines to end" })));
      continue;
    }
    await Promise.all(
      ofKind.map(async (thing) => {
        try {
          if ((await remove(ec2, kind, thing)) === "removed") settle({ thing, outcome: "removed" });
          else waiting.push({ thing, reason: "it has not ended yet" });
        } catch (error) {
          const code = errorCode(error);
          const reason = `${code}: ${error instanceof Error ? error.message : String(error)}`;
          if (GONE.test(code)) settle({ thing, outcome: "gone already" });
          else if (IN_USE.test(code)) waiting.push({ thing, reason });
          else settle({ thing, outcome: "left", reason });
        }
      }),
    );
  }
  return waiting;
}

/** One call that deletes, or asks to. @throws what EC2 answers */
async function remove(ec2: EC2Client, kind: KindName, { id, name }: CloudThing): Promise<Answer> {
  switch (kind) {
    case "instance":
      return terminate(ec2, id);
    case "internet-gateway":
      return detachAndDelete(ec2, id);
    case "spot-instances-request":
      await ec2.send(new CancelSpotInstanceRequestsCommand({ SpotInstanceRequestIds: [id] }));
      return "removed";
    case "spot-fleet-request":
      await ec2.send(new CancelSpotFleetRequestsCommand({ SpotFleetRequestIds: [id], TerminateInstances: true }));
      return "removed";
    case "fleet":
      await ec2.send(new DeleteFleetsCommand({ FleetIds: [id], TerminateInstances: true }));
      return "removed";
    case "elastic-ip":
      await ec2.send(new ReleaseAddressCommand({ AllocationId: id }));
      return "removed";
    case "volume":
      await ec2.send(new DeleteVolumeCommand({ VolumeId: id }));
      return "removed";
    case "network-interface":
      await ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: id }));
      return "removed";
    case "launch-template":
      await ec2.send(new DeleteLaunchTemplateCommand({ LaunchTemplateId: id }));
      return "removed";
    case "key-pair":
      await ec2.send(new DeleteKeyPairCommand({ KeyPairId: id }));
      return "removed";
    case "placement-group":
      await ec2.send(new DeletePlacementGroupCommand({ GroupName: name ?? id }));
      return "removed";
    case "security-group":
      await ec2.send(new DeleteSecurityGroupCommand({ GroupId: id }));
      return "removed";
    case "subnet":
      await ec2.send(new DeleteSubnetCommand({ SubnetId: id }));
      return "removed";
    case "route-table":
      await ec2.send(new DeleteRouteTableCommand({ RouteTableId: id }));
      return "removed";
    case "vpc":
      return emptyAndDelete(ec2, id);
    default:
      throw new Error(`unknown kind ${JSON.stringify(kind satisfies never)}`);
  }
}

/** Asked again, EC2 says how far it is. */
async function terminate(ec2: EC2Client, id: string): Promise<Answer> {
  const { TerminatingInstances = [] } = await ec2.send(new TerminateInstancesCommand({ InstanceIds: [id] }));
  const wasOver = TerminatingInstances[0]?.PreviousState?.Name === "terminated";
  return wasOver || TerminatingInstances[0]?.CurrentState?.Name === "terminated" ? "removed" : "ending";
}

/**
 * A VPC takes its main route table along, and no other. Where the main one is the stack's, the one that AWS made with the VPC is
 * left: it has no tags, and nothing uses it.
 */
async function emptyAndDelete(ec2: EC2Client, VpcId: string): Promise<Answer> {
  const Filters = [{ Name: "vpc-id", Values: [VpcId] }];
  const { RouteTables = [] } = await ec2.send(new DescribeRouteTablesCommand({ Filters }));
  for (const { RouteTableId, Associations = [], Tags = [] } of RouteTables) {
    const isOurs = Tags.some(({ Key, Value }) => Key === RUN_TAGS.createdBy && Value === CREATED_BY);
    if (Associations.length > 0 || (Tags.length > 0 && !isOurs)) continue;
    await ec2.send(new DeleteRouteTableCommand({ RouteTableId }));
  }
  await ec2.send(new DeleteVpcCommand({ VpcId }));
  return "removed";
}

async function detachAndDelete(ec2: EC2Client, id: string): Promise<Answer> {
  const { InternetGateways = [] } = await ec2.send(new DescribeInternetGatewaysCommand({ InternetGatewayIds: [id] }));
  for (const { VpcId } of InternetGateways[0]?.Attachments ?? []) {
    await ec2.send(new DetachInternetGatewayCommand({ InternetGatewayId: id, VpcId }));
  }
  await ec2.send(new DeleteInternetGatewayCommand({ InternetGatewayId: id }));
  return "removed";
}
