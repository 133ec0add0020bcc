import { z } from "zod";
import { setting } from "./setting";

const INSTANCE_TYPE = /^[a-z0-9-]+\.[a-z0-9-]+$/;
const ZONE = /^[a-z]{2}(-[a-z]+)+-\d[a-z]$/;
const CIDR = /^(?:\d{1,3}(?:\.\d{1,3}){3}\/\d{1,2}|[0-9a-fA-F:]+\/\d{1,3})$/;

/** What can be bought: `on-demand` at the list price, `spot` for less until AWS wants it back. */
export const MARKETS = ["on-demand", "spot"] as const;
export type Market = (typeof MARKETS)[number];

/** One thing, or several in the order in which they are tried. */
function oneOrMore<Item extends z.ZodType<string>>(item: Item) {
  return z.union([z.array(item).min(1), item.transform((only) => [only])]);
}

const instanceType = z.string().regex(INSTANCE_TYPE);
const zone = z.string().regex(ZONE);
const market = z.enum(MARKETS);

/** Deep Learning Base AMI with NVIDIA's open driver. */
const DEFAULT_AMI = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id";

/** Settings of `target: ec2`: which machines, in which order they are tried. */
const choice = {
  region: setting(z.string().regex(/^[a-z]{2}(-[a-z]+)+-\d$/), {
    doc: "Region of the machines.",
    allowed: "a region's name",
    example: "us-east-1",
  }),
  machines: setting(z.number().int().min(1).max(16).default(1), {
    doc: "How many machines; each serves the whole model.",
    allowed: "a whole number from 1 to 16",
    example: 2,
  }),
  instanceTypes: setting(oneOrMore(instanceType).optional(), {
    doc:
      "Types to try, in this order. Without them the catalogue's types that have the GPUs that you wish for (`gpus`, `ec2.minGpuMemoryGiB`, " +
      "`gpuType`) are tried, the cheapest first.",
    allowed: "an instance type with NVIDIA GPUs, or a list of them",
    otherwise: "the cheapest that have `gpus` GPUs",
    example: ["g6.12xlarge", "g5.12xlarge"],
  }),
  minGpuMemoryGiB: setting(z.number().positive().max(1024).optional(), {
    doc: "The least memory of each GPU, as it is sold (an L4 has 24), where the types are not written out.",
    allowed: "a number above 0",
    otherwise: "any GPU that the plan fits on",
    example: 24,
  }),
  zones: setting(oneOrMore(zone).optional(), {
    doc: "Availability zones to try, in this order.",
    allowed: "a zone of the region, or a list of them",
    otherwise: "every zone that offers the type",
    example: ["us-east-1a", "us-east-1b"],
  }),
  markets: setting(oneOrMore(market).default(["on-demand"]), {
    doc: "Markets to try, in this order; a spot machine may be taken back with two minutes' notice, which stops training with a checkpoint.",
    allowed: "on-demand, spot, or both in the order in which they are tried",
    example: ["spot", "on-demand"],
  }),
  ladder: setting(
    z
      .array(z.strictObject({ instanceType, zone: zone.optional(), market: market.default("on-demand") }))
      .min(1)
      .optional(),
    {
      doc: "Every choice written out, in the order in which they are tried, in place of `instanceTypes`, `zones` and `markets`.",
      allowed: "a list of objects with `instanceType` and, if wanted, `zone` and `market`",
      otherwise: "types × zones × markets",
      example: [{ instanceType: "g6.12xlarge", market: "spot" }, { instanceType: "g5.12xlarge" }],
    },
  ),
  waitForCapacity: setting(
    z
      .string()
      .regex(/^[1-9]\d*[mhd]$/)
      .optional(),
    {
      doc: "How long to try again when no choice has capacity; `--wait-for-capacity` on the command line. Each try is shown.",
      allowed: "a number of minutes, hours or days, such as 30m or 2h",
      otherwise: "every choice is tried once",
      example: "2h",
    },
  ),
};

/** Settings of `target: ec2`: what a machine is made of. */
const machine = {
  ami: setting(
    z
      .string()
      .regex(/^(ami-[0-9a-f]{8,17}|\/[\w./-]+)$/)
      .default(DEFAULT_AMI),
    {
      doc:
        "The image: an id, or the name of a public SSM parameter that holds one. The default comes with NVIDIA's driver; with a plain " +
        "Ubuntu set `driver.policy` to ensure.",
      allowed: "ami-…, or the name of an SSM parameter, which starts with /",
      example: "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
    },
  ),
  rootVolumeGiB: setting(z.union([z.literal("auto"), z.number().int().min(30).max(16_384)]).default("auto"), {
    doc: "Size of the encrypted root volume, which goes with the machine. `auto` is the image's, what the plan puts on the disk, and room to work.",
    allowed: "auto, or GiB from 30 to 16384",
    example: "auto",
  }),
  efa: setting(z.boolean().default(false), {
    doc: "Elastic Fabric Adapter on the first network card, for traffic between machines. Every type that is tried must have it.",
    allowed: "true or false",
    example: false,
  }),
  placementGroup: setting(z.boolean().default(false), {
    doc: "Put the machines close together in a cluster placement group. It makes capacity scarcer.",
    allowed: "true or false",
    example: false,
  }),
};

/** Settings of `target: ec2`: where the machines stand and how they are reached. */
const reach = {
  subnetIds: setting(oneOrMore(z.string().regex(/^subnet-[0-9a-f]{8,17}$/)).optional(), {
    doc: "Subnets of yours to put the machines into, one a zone at most. They need a way to the internet.",
    allowed: "a subnet's id, or a list of them, all of one VPC",
    otherwise: "a small VPC of the stack's own, with a public subnet in each zone",
    example: ["subnet-0123456789abcdef0"],
  }),
  publicAddress: setting(z.boolean().default(true), {
    doc: "Give each machine a public address, and reach it there. Without one, it is reached at its private address.",
    allowed: "true or false",
    example: true,
  }),
  reach: setting(z.enum(["ssh", "ssm"]).default("ssh"), {
    doc:
      "How machines are reached: `ssh` opens port 22 for `ec2.allowedCidr`, `ssm` opens nothing and goes through Session Manager, which needs " +
      "`ec2.instanceProfile`, and the AWS CLI with its Session Manager plugin on this machine.",
    allowed: "ssh or ssm",
    example: "ssh",
  }),
  allowedCidr: setting(oneOrMore(z.string().regex(CIDR)).optional(), {
    doc: "Addresses from which port 22 is open. One more port is open only with `exposure` private or public: the gateway's, for `gateway.allowedCidrs`.",
    allowed: "an address range such as 203.0.113.7/32, or a list of them; never the whole internet",
    otherwise: "there is no way in: `ec2.reach: ssh` needs it",
    example: "203.0.113.7/32",
  }),
  instanceProfile: setting(
    z
      .string()
      .regex(/^[\w+=,.@-]{1,128}$/)
      .optional(),
    {
      doc: "Name of an instance profile for the machines. For Session Manager it must hold the policy AmazonSSMManagedInstanceCore.",
      allowed: "a profile's name",
      otherwise: "the machines have no rights in the account",
      example: "gpu-machines",
    },
  ),
  sshUser: setting(
    z
      .string()
      .regex(/^[a-z_][a-z0-9_-]*$/)
      .default("ubuntu"),
    {
      doc: "User that the image lets in.",
      allowed: "a user name",
      example: "ubuntu",
    },
  ),
  identityFile: setting(z.string().min(1).optional(), {
    doc: "Private key to log in with; its public key must lie beside it, with `.pub` at the end.",
    allowed: "a path",
    otherwise: "a key that is made for the stack and kept in its folder of states on this machine",
    example: "~/.ssh/id_ed25519",
  }),
  owner: setting(z.string().min(1).max(128).optional(), {
    doc: "Who the machines belong to, in their tags. Whoever else works on the same stack must give the same.",
    allowed: "a name",
    otherwise: "your user at this machine's name",
    example: "research-ci",
  }),
};

/** Settings of `target: ec2`. */
export const ec2Settings = z.strictObject({ ...choice, ...machine, ...reach }).optional();
