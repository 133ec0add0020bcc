import type { EC2Client } from "@aws-sdk/client-ec2";

/**
 * The cloud's time: from now on every answer's `Date` header is compared with this machine's clock. Before the first answer it is
 * this machine's own.
 */
export function watchCloudClock(ec2: EC2Client): () => Date {
  let aheadMs = 0;
  ec2.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      const { headers } = result.response as { readonly headers?: Readonly<Record<string, string>> };
      const told = Date.parse(headers?.["date"] ?? "");
      if (!Number.isNaN(told)) aheadMs = told - Date.now();
      return result;
    },
    { step: "deserialize", name: "watchCloudClock", priority: "low", override: true },
  );
  return () => new Date(Date.now() + aheadMs);
}
