import type { Problem } from "../../plan/problem";
import { describeRung, type Rung } from "../../plan/ec2-ladder";

/** Why EC2 would not launch, sorted by what can be done about it. */
export type LaunchErrorClass =
  "capacity" | "quota" | "not offered" | "credentials" | "price" | "throttling" | "image" | "subnet" | "other";

/** One choice of the ladder that could not be had. */
export interface RungError {
  readonly rung: Rung;
  readonly class: LaunchErrorClass;
  /** EC2's own code, e.g. `InsufficientInstanceCapacity`. */
  readonly code: string;
  readonly message: string;
}

/** EC2's codes by class, after "Error codes for the Amazon EC2 API" (November 2026). The first that matches wins. */
const CODES: readonly (readonly [LaunchErrorClass, RegExp])[] = [
  ["price", /MaxPriceTooLow|MaxTotalPrice|PriceTooLow/],
  ["subnet", /InsufficientFreeAddressesInSubnet|InvalidSubnet/],
  ["capacity", /Insufficient\w*Capacity|UnfulfillableCapacity|InsufficientCapacity|Server\.InternalError/],
  ["quota", /LimitExceeded$|QuotaExceeded|MaxSpotInstanceCountExceeded/],
  [
    "credentials",
    /AuthFailure|Unauthorized|AccessDenied|ExpiredToken|InvalidClientTokenId|SignatureDoesNotMatch|OptInRequired|PendingVerification|Blocked|CredentialsProvider|UnrecognizedClient/,
  ],
  ["image", /InvalidAMIID|InvalidImage/],
  [
    "not offered",
    /^Unsupported|InvalidFleetConfiguration|InstanceTypeNotSupported|InvalidInstanceType|InvalidAvailabilityZone/,
  ],
];
/** Has the ending of a quota and is none. */
const THROTTLED = /RequestLimitExceeded|Throttl|TooManyRequests|SlowDown|RequestResourceCountExceeded/;

export function classifyCode(code: string, message = ""): LaunchErrorClass {
  if (THROTTLED.test(code)) return "throttling";
  // EC2 says this for a type that a zone does not have, and for a price that is too low.
  if (/InvalidParameter|InvalidFleet/.test(code) && /price/i.test(message)) return "price";
  if (/InvalidParameter/.test(code) && /instance type|availability zone/i.test(message)) return "not offered";
  return CODES.find(([, pattern]) => pattern.test(code))?.[0] ?? "other";
}

/** The code of an error of the AWS SDK. */
export function errorCode(error: unknown): string {
  const { Code, code, name } = error as { readonly Code?: unknown; readonly code?: unknown; readonly name?: unknown };
  return [Code, code, name].find((value): value is string => typeof value === "string") ?? "Error";
}

const CURES: Readonly<Record<LaunchErrorClass, string>> = {
  capacity: "add types, zones or the other market to the ladder, or wait: tandem up --wait-for-capacity 2h",
  quota: "ask for a higher quota (Service Quotas, Amazon EC2), or choose a smaller type",
  "not offered": "choose a type that the zone offers, or leave `ec2.zones` out",
  credentials: "give credentials that may do this (docs/ec2.md has the policy), or sign in again",
  price: "raise `maxPricePerHourUsd`, or choose a cheaper type",
  throttling: "try again in a minute: the account makes too many calls",
  image: "choose another `ec2.ami`",
  subnet: "give subnets with free addresses in `ec2.subnetIds`, or leave them out",
  other: "see EC2's own words",
};

/** Whether waiting may help: somebody gives a machine back, or the account makes fewer calls. */
export function mayPass(errors: readonly RungError[]): boolean {
  return errors.some((error) => error.class === "capacity" || error.class === "throttling");
}

/** The table that people read: a line for each choice, then what to do about each class that occurs. */
export function renderRungErrors(errors: readonly RungError[]): string {
  const rows = errors.map(({ rung, class: kind, code, message }) => [
    describeRung(rung),
    kind,
    `${code}: ${message.split("\n")[0] ?? ""}`,
  ]);
  const widths = [0, 1].map((column) => Math.max(0, ...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map(([rung = "", kind = "", text = ""]) =>
    `  ${rung.padEnd(widths[0] ?? 0)}  ${kind.padEnd(widths[1] ?? 0)}  ${text}`.trimEnd(),
  );
  const kinds = [...new Set(errors.map((error) => error.class))];
  return [...lines, ...kinds.map((kind) => `  fix (${kind}): ${CURES[kind]}`)].join("\n");
}

/** An error of a call that asks, as a problem of a setting. */
export function callProblem(error: unknown, what: string, region: string): Problem {
  const code = errorCode(error);
  const message = error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
  if (/ENOTFOUND|EAI_AGAIN/.test(`${code} ${message}`)) {
    return {
      setting: "ec2.region",
      what: `EC2 has no address in this region, or this machine has no network: ${message}`,
      value: region,
      fix: "name a region such as us-east-1",
    };
  }
  const kind = classifyCode(code, message);
  if (kind === "credentials") {
    return {
      setting: "credentials",
      what: `AWS does not let this client ${what}`,
      value: `${code}: ${message}`,
      allowed: "what the AWS CLI takes: AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a sign-in",
      fix: CURES.credentials,
    };
  }
  return { setting: "ec2", what: `can't ${what}`, value: `${code}: ${message}`, fix: CURES[kind] };
}
