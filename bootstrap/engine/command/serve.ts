import { Server, ServerCredentials } from "@grpc/grpc-js";
import { ResourceProviderService } from "@pulumi/pulumi/proto/provider_grpc_pb.js";
import { EngineLog } from "./engine-log";
import { commandProvider } from "./provider";

/** Serves Pulumi's provider protocol on a free port of the loopback, and prints the port for the engine. */
export async function serve(engineAddress: string | undefined): Promise<void> {
  if (engineAddress === undefined) throw new Error("usage: pulumi-resource-command ENGINE_ADDRESS");
  // Large outputs and states are Pulumi's to limit: its own plugins have no limit either.
  const server = new Server({ "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 });
  server.addService(ResourceProviderService, commandProvider(new EngineLog(engineAddress)));
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  process.stdout.write(`${port}\n`);
}
