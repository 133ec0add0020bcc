/**
 * The kinds of things in EC2 that a stack may have, in the order in which they can be deleted: what others hang on comes last.
 * The names are EC2's own resource types, as `DescribeTags` has them.
 */

/** How to call a kind for people, and how to delete one by hand. */
interface Kind {
  readonly label: string;
  /** Arguments of the AWS CLI; `{id}` stands for the id, `{name}` for its name. */
  readonly byHand: string;
}

const KINDS = {
  "spot-instances-request": {
    label: "spot request",
    byHand: "cancel-spot-instance-requests --spot-instance-request-ids {id}",
  },
  "spot-fleet-request": {
    label: "spot fleet",
    byHand: "cancel-spot-fleet-requests --terminate-instances --spot-fleet-request-ids {id}",
  },
  fleet: { label: "fleet", byHand: "delete-fleets --terminate-instances --fleet-ids {id}" },
  instance: { label: "instance", byHand: "terminate-instances --instance-ids {id}" },
  "elastic-ip": { label: "address", byHand: "release-address --allocation-id {id}" },
  volume: { label: "volume", byHand: "delete-volume --volume-id {id}" },
  "network-interface": { label: "network interface", byHand: "delete-network-interface --network-interface-id {id}" },
  "launch-template": { label: "launch template", byHand: "delete-launch-template --launch-template-id {id}" },
  "key-pair": { label: "key pair", byHand: "delete-key-pair --key-pair-id {id}" },
  "placement-group": { label: "placement group", byHand: "delete-placement-group --group-name {name}" },
  "security-group": { label: "security group", byHand: "delete-security-group --group-id {id}" },
  "internet-gateway": { label: "internet gateway", byHand: "delete-internet-gateway --internet-gateway-id {id}" },
  subnet: { label: "subnet", byHand: "delete-subnet --subnet-id {id}" },
  vpc: { label: "VPC", byHand: "delete-vpc --vpc-id {id}" },
  // A VPC takes its main table along.
  "route-table": { label: "route table", byHand: "delete-route-table --route-table-id {id}" },
} as const satisfies Record<string, Kind>;

/** A kind that can be deleted from here. */
export type KindName = keyof typeof KINDS;

/** In the order of deletion. */
export const KIND_NAMES = Object.keys(KINDS) as KindName[];

export function isKindName(type: string): type is KindName {
  return type in KINDS;
}

/** One thing in the cloud that carries our tags. */
export interface CloudThing {
  readonly region: string;
  /** EC2's resource type, or `service:type` of an ARN for everything else. */
  readonly type: string;
  /** EC2's id, or the ARN. */
  readonly id: string;
  /** Name, where deleting needs one. */
  readonly name?: string;
  readonly tags: Readonly<Record<string, string>>;
  /** What the cloud says of an instance or a request, e.g. `running`. */
  readonly state?: string;
  /** When the cloud says that an instance was launched. */
  readonly launchedAt?: Date;
  /** Whether EC2's own tags on an instance say that a fleet or a launch template made it; of its parts as well. */
  readonly isFromTemplate?: boolean;
}

/** `instance i-0123 in us-east-1 (running)`. */
export function describeThing({ type, id, name, region, state }: CloudThing): string {
  const label = isKindName(type) ? KINDS[type].label : type;
  const called = name === undefined || name === id ? id : `${id} (${name})`;
  return `${label} ${called} in ${region}${state === undefined ? "" : ` (${state})`}`;
}

/** The command that removes a thing by hand. */
export function removalByHand({ type, id, name, region }: CloudThing): string {
  if (!isKindName(type)) return `remove ${id} in its own console`;
  const call = KINDS[type].byHand.replace("{id}", id).replace("{name}", name ?? id);
  return `aws ec2 ${call} --region ${region}`;
}
