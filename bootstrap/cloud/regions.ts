import { DescribeRegionsCommand } from "@aws-sdk/client-ec2";
import { withClients } from "./clients";

/** Where DescribeRegions is asked when nothing else is said. */
const HOME_REGION = "us-east-1";

/** The regions that the account has switched on, by name. */
export async function enabledRegions(): Promise<string[]> {
  const home = process.env["AWS_REGION"] ?? process.env["AWS_DEFAULT_REGION"] ?? HOME_REGION;
  return withClients(home, async ({ ec2 }) => {
    const { Regions = [] } = await ec2.send(new DescribeRegionsCommand({ AllRegions: false }));
    return Regions.flatMap(({ RegionName }) => RegionName ?? []).toSorted();
  });
}
