import { spawn } from "node:child_process";
import { once } from "node:events";
import * as path from "node:path";
import { credentials } from "@grpc/grpc-js";
import { AnalyzerClient } from "@pulumi/pulumi/proto/analyzer_grpc_pb.js";
import { AnalyzeRequest, AnalyzerResourceOptions, type AnalyzeResponse } from "@pulumi/pulumi/proto/analyzer_pb.js";
import { Struct } from "google-protobuf/google/protobuf/struct_pb.js";
import { expect, it } from "vitest";

const root = path.resolve(__dirname, "../..");

it("the pack answers the engine's questions over its own protocol", async () => {
  const argv = ["--import", "tsx", "policy/index.ts", "127.0.0.1:1", root];
  const pack = spawn(path.join(root, "bin/node22"), argv, { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
  try {
    const [port] = (await once(pack.stdout, "data")) as [Buffer];
    const client = new AnalyzerClient(`127.0.0.1:${port.toString().trim()}`, credentials.createInsecure());
    const request = new AnalyzeRequest();
    request.setType("aws:ec2/securityGroup:SecurityGroup");
    request.setName("open");
    request.setUrn("urn:pulumi:s::p::aws:ec2/securityGroup:SecurityGroup::open");
    request.setOptions(new AnalyzerResourceOptions());
    const ingress = [{ protocol: "tcp", fromPort: 22, toPort: 22, cidrBlocks: ["0.0.0.0/0"] }];
    request.setProperties(Struct.fromJavaScript({ ingress }));
    const answer = await new Promise<AnalyzeResponse>((resolve, reject) =>
      client.analyze(request, (error, response) => {
        if (error) reject(error);
        else resolve(response);
      }),
    );
    client.close();
    const said = answer.getDiagnosticsList().map((found) => `${found.getPolicyname()}: ${found.getMessage()}`);
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(/^no-ssh-from-anywhere: [\s\S]*fix: name your own range/);
  } finally {
    pack.kill("SIGKILL");
  }
});
