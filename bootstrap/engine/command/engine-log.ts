import { credentials } from "@grpc/grpc-js";
import { EngineClient } from "@pulumi/pulumi/proto/engine_grpc_pb.js";
import { LogRequest, LogSeverity } from "@pulumi/pulumi/proto/engine_pb.js";

/** Sends lines to the engine, which shows them beside a resource while it is worked on. They come in order. */
export class EngineLog {
  private readonly client: EngineClient;
  private sent: Promise<void> = Promise.resolve();

  /** @param address `host:port` of the engine's own server, the plugin's first argument */
  constructor(address: string) {
    this.client = new EngineClient(address, credentials.createInsecure());
  }

  /** A line that the engine does not keep. */
  status(urn: string, line: string): void {
    const request = new LogRequest().setSeverity(LogSeverity.INFO).setUrn(urn).setMessage(line).setEphemeral(true);
    this.sent = this.sent.then(
      () =>
        new Promise((resolve) => {
          // An engine that is gone has no use for the line, and its end is noticed elsewhere.
          this.client.log(request, () => resolve());
        }),
    );
  }

  /** Until everything said so far has arrived. */
  async flush(): Promise<void> {
    await this.sent;
  }
}
