import { execFileSync } from "node:child_process";
import * as path from "node:path";
import { expect } from "vitest";
import type { GatewayDocument } from "../../plan/gateway-plan";
import { freePort } from "../fixtures/free-port";
import { SHARED_CACHE } from "../host/real-runtime";
import { type Answer, TestHost } from "../host/host";
import { EchoService } from "./echo-service";
import { gatewayDocumentOf } from "./gateway-document";

export const KEYS = { default: `tdm-${"D".repeat(43)}`, alice: `tdm-${"a-_9".repeat(11)}` } as const;
export const UPSTREAM_KEY = `tdm-${"u".repeat(43)}`;

/** The real gateway, started by its real step on this machine, before two services that let everything in. */
export class GatewayHost {
  readonly host: TestHost;
  readonly serving = new EchoService();
  readonly training = new EchoService();
  document!: GatewayDocument;
  port!: number;
  servingPort!: number;

  /**
   * @param environment of the host's scripts and units, e.g. another PATH
   * @param user who runs all of it, with a cache of their own
   */
  constructor(environment: Readonly<Record<string, string>> = {}, user?: number) {
    const shared = user === undefined && { TANDEM_CACHE_DIR: SHARED_CACHE };
    this.host = new TestHost({}, { ...shared, ...environment }, user);
  }

  /** @param settings on top of a gateway with a trainer */
  async start(settings: Record<string, unknown> = {}): Promise<Answer> {
    const [servingPort, trainingPort] = [await this.serving.listen(), await this.training.listen()];
    this.servingPort = servingPort;
    const { gateway = {}, port, ...others } = settings as { gateway?: object; port?: number };
    this.port = port ?? (await freePort());
    this.document = gatewayDocumentOf({
      port: this.port,
      training: { backend: "huggingface", port: trainingPort },
      gateway: { enabled: true, servingPort, ...gateway },
      ...others,
    });
    const answer = await this.apply();
    expect(answer, answer.stderr).toMatchObject({ code: 0 });
    return answer;
  }

  apply(keys: Readonly<Record<string, string>> = KEYS, document: unknown = this.document): Promise<Answer> {
    const named = Object.entries(keys).map(([name, key]) => [`key ${name}`, key]);
    const secrets = { upstreamKey: UPSTREAM_KEY, ...(Object.fromEntries(named) as Record<string, string>) };
    return this.host.run(["apply", "gateway"], { document, secrets, values: { TANDEM_REPAIR: "#g" } });
  }

  /** Hands over what a proof measured, as the proof step does. */
  note(proof: object): void {
    const folder = path.join(this.host.stackDir, "units/gateway");
    const argv = ["-ESsB", path.join(folder, "gateway_run.py"), "note", folder];
    execFileSync("python3", argv, { input: JSON.stringify(proof) });
  }

  fetch(route: string, init: RequestInit & { key?: string } = {}): Promise<Response> {
    const { key, ...rest } = init;
    const headers = new Headers(rest.headers);
    if (key !== undefined) headers.set("authorization", `Bearer ${key}`);
    return fetch(`http://127.0.0.1:${this.port}${route}`, { ...rest, headers });
  }

  async close(): Promise<void> {
    await Promise.all([this.serving.close(), this.training.close()]);
    await this.host.close();
  }
}
