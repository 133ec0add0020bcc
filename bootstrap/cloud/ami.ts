import { DescribeImagesCommand } from "@aws-sdk/client-ec2";
import { GetParameterCommand } from "@aws-sdk/client-ssm";
import { ProblemsError } from "../../plan/problem";
import type { Clients } from "./clients";
import { callProblem, errorCode } from "./ladder-errors";

/** An image that machines can start from. */
export interface MachineImage {
  readonly id: string;
  /** Name of the root volume, e.g. `/dev/sda1`. */
  readonly rootDeviceName: string;
  /** The root volume can't be smaller. */
  readonly rootVolumeGiB: number;
}

/**
 * The image behind a setting.
 * @param ami an id, or the name of an SSM parameter that holds one
 * @throws ProblemsError when there is none, or it is not for these machines
 */
export async function findImage(clients: Clients, ami: string): Promise<MachineImage> {
  const id = ami.startsWith("/") ? await readParameter(clients, ami) : ami;
  const named = id === ami ? ami : `${ami} (${id})`;
  try {
    const { Images: [image] = [] } = await clients.ec2.send(new DescribeImagesCommand({ ImageIds: [id] }));
    if (image === undefined) throw gone(named, "there is no such image in this region");
    if (image.State !== "available") throw gone(named, `the image is ${image.State ?? "not available"}`);
    if (image.Architecture !== "x86_64")
      throw gone(named, `the image is for ${image.Architecture ?? "another architecture"}`);
    const rootDeviceName = image.RootDeviceName ?? "/dev/sda1";
    const root = image.BlockDeviceMappings?.find(({ DeviceName }) => DeviceName === rootDeviceName);
    return { id, rootDeviceName, rootVolumeGiB: root?.Ebs?.VolumeSize ?? 8 };
  } catch (error) {
    if (error instanceof ProblemsError) throw error;
    if (/InvalidAMIID/.test(errorCode(error))) throw gone(named, "there is no such image in this region");
    throw new ProblemsError([callProblem(error, "look at the image", clients.region)]);
  }
}

async function readParameter(clients: Clients, name: string): Promise<string> {
  try {
    const { Parameter } = await clients.ssm.send(new GetParameterCommand({ Name: name }));
    const value = Parameter?.Value ?? "";
    if (!value.startsWith("ami-")) throw gone(name, `the parameter holds no image but ${JSON.stringify(value)}`);
    return value;
  } catch (error) {
    if (error instanceof ProblemsError) throw error;
    if (errorCode(error) === "ParameterNotFound") throw gone(name, "there is no such SSM parameter in this region");
    throw new ProblemsError([callProblem(error, "read the SSM parameter of the image", clients.region)]);
  }
}

function gone(value: string, what: string): ProblemsError {
  const allowed = "the id of an image for x86_64, or the name of an SSM parameter that holds one";
  return new ProblemsError([
    { setting: "ec2.ami", what, value, allowed, fix: "leave `ec2.ami` out for AWS's own image with a driver" },
  ]);
}
