import { EC2Client } from "@aws-sdk/client-ec2";
import { ServiceQuotasClient } from "@aws-sdk/client-service-quotas";
import { SSMClient } from "@aws-sdk/client-ssm";
import { STSClient } from "@aws-sdk/client-sts";

/** Clients of one region. Credentials and addresses come from where every AWS tool takes them, `AWS_ENDPOINT_URL` too. */
export interface Clients {
  readonly region: string;
  readonly ec2: EC2Client;
  readonly ssm: SSMClient;
  readonly quotas: ServiceQuotasClient;
  readonly sts: STSClient;
}

/** Throttled calls and lost answers are asked again so often in all, with growing pauses of the SDK's. */
const MOST_ATTEMPTS = 6;
const CONNECT_SECONDS = 10;
const ANSWER_SECONDS = 60;

/** Runs `work` with clients of a region and closes their connections afterwards. */
export async function withClients<Result>(
  region: string,
  work: (clients: Clients) => Promise<Result>,
): Promise<Result> {
  const options = {
    region,
    maxAttempts: MOST_ATTEMPTS,
    requestHandler: { connectionTimeout: CONNECT_SECONDS * 1000, requestTimeout: ANSWER_SECONDS * 1000 },
  };
  const clients: Clients = {
    region,
    ec2: new EC2Client(options),
    ssm: new SSMClient(options),
    quotas: new ServiceQuotasClient(options),
    sts: new STSClient(options),
  };
  try {
    return await work(clients);
  } finally {
    for (const client of [clients.ec2, clients.ssm, clients.quotas, clients.sts]) client.destroy();
  }
}
